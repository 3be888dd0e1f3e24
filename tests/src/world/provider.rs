//! Fake providers of models: they answer "hello from the world" to whatever is
//! asked, in the streamed events of the real ones.

use anyhow::Result;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue, UPGRADE},
};
use serde_json::{Value, json};

use super::{
    body::{self, Outgoing},
    http::Connection,
};

/// What every model says.
pub const ANSWER: &str = "hello from the world";

/// Whether the host is a provider's.
pub(super) fn is_provider(host: Option<&str>) -> bool {
    matches!(host, Some("api.anthropic.com" | "api.openai.com"))
}

pub(super) async fn serve(
    request: Request<Incoming>,
    connection: &Connection,
) -> Result<Response<Outgoing>> {
    if request.headers().contains_key(UPGRADE) {
        // The agents that prefer a WebSocket fall back to events.
        return status(StatusCode::UPGRADE_REQUIRED);
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let bytes = request.into_body().collect().await?.to_bytes();
    let asked: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    connection.world.ledger.write(
        "prompt",
        json!({ "connection": connection.id, "path": path, "bytes": bytes.len() }),
    );
    match (method, path.as_str()) {
        (Method::POST, "/v1/messages") => answer(&asked, messages(&asked), &message(&asked)),
        (Method::POST, "/v1/messages/count_tokens") => json_answer(&json!({ "input_tokens": 10 })),
        (Method::POST, "/v1/responses") => {
            let model = asked.get("model").cloned().unwrap_or_default();
            answer(&asked, responses(&model), &response(&model, "completed"))
        }
        (Method::GET, "/v1/models") => json_answer(&json!({ "object": "list", "data": [] })),
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// Events when the client asked for a stream, one document otherwise.
fn answer(asked: &Value, events: Vec<Value>, whole: &Value) -> Result<Response<Outgoing>> {
    if asked.get("stream") != Some(&json!(true)) {
        return json_answer(whole);
    }
    let (sender, body) = body::channel();
    tokio::spawn(async move {
        for event in events {
            let kind = event
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let text = format!("event: {kind}\ndata: {event}\n\n");
            if sender
                .send(Ok(Frame::data(Bytes::from(text))))
                .await
                .is_err()
            {
                break;
            }
        }
    });
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

fn message(asked: &Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant",
        "model": asked.get("model"), "content": [{ "type": "text", "text": ANSWER }],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 10, "output_tokens": 5 },
    })
}

fn messages(asked: &Value) -> Vec<Value> {
    let mut start = message(asked);
    if let Some(fields) = start.as_object_mut() {
        fields.insert("content".into(), json!([]));
        fields.insert("stop_reason".into(), Value::Null);
    }
    let mut events = vec![
        json!({ "type": "message_start", "message": start }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
    ];
    events.extend(ANSWER.split_inclusive(' ').map(|word| {
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": word } })
    }));
    events.extend([
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": { "output_tokens": 5 } }),
        json!({ "type": "message_stop" }),
    ]);
    events
}

fn item() -> Value {
    json!({
        "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
        "content": [{ "type": "output_text", "text": ANSWER, "annotations": [] }],
    })
}

fn response(model: &Value, status: &str) -> Value {
    let output = if status == "completed" {
        json!([item()])
    } else {
        json!([])
    };
    json!({
        "id": "resp_1", "object": "response", "created_at": 1, "model": model,
        "status": status, "output": output,
        "usage": {
            "input_tokens": 10, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": 5, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": 15,
        },
    })
}

fn responses(model: &Value) -> Vec<Value> {
    let mut events = vec![
        json!({ "type": "response.created", "response": response(model, "in_progress") }),
        json!({ "type": "response.output_item.added", "output_index": 0, "item": { "type": "message", "id": "msg_1", "status": "in_progress", "role": "assistant", "content": [] } }),
        json!({ "type": "response.content_part.added", "item_id": "msg_1", "output_index": 0, "content_index": 0, "part": { "type": "output_text", "text": "", "annotations": [] } }),
    ];
    events.extend(ANSWER.split_inclusive(' ').map(|word| {
        json!({ "type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": word })
    }));
    events.extend([
        json!({ "type": "response.output_text.done", "item_id": "msg_1", "output_index": 0, "content_index": 0, "text": ANSWER }),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": item() }),
        json!({ "type": "response.completed", "response": response(model, "completed") }),
    ]);
    for (number, event) in events.iter_mut().enumerate() {
        if let Some(fields) = event.as_object_mut() {
            fields.insert("sequence_number".into(), json!(number));
        }
    }
    events
}

fn json_answer(value: &Value) -> Result<Response<Outgoing>> {
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    Ok(response.body(body::full(value.to_string()))?)
}

fn status(status: StatusCode) -> Result<Response<Outgoing>> {
    let error = json!({ "type": "error", "error": { "type": "not_found_error", "message": "no such thing" } });
    let mut response = json_answer(&error)?;
    *response.status_mut() = status;
    Ok(response)
}
