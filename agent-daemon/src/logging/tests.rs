use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use rstest::rstest;
use tracing::subscriber::with_default;

use super::*;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Kept;

    fn make_writer(&'a self) -> Kept {
        self.clone()
    }
}

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(style: Style, run: impl FnOnce()) -> String {
    let kept = Kept::default();
    let layer = layer(style, kept.clone());
    with_default(tracing_subscriber::registry().with(layer), run);
    let bytes = kept.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn human_lines_show_level_message_and_fields() {
    let line = logged(Style::Human { colour: false }, || {
        tracing::info!(peer = %"100.64.0.2", count = 3, "intercepting");
    });
    assert!(
        line.ends_with(" INFO intercepting peer=100.64.0.2 count=3\n"),
        "{line}"
    );
}

#[test]
fn json_lines_have_fields_beside_the_message() {
    let line = logged(
        Style::Json,
        || tracing::warn!(peer = %"100.64.0.2", "refusing"),
    );
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["peer"], "100.64.0.2");
    assert_eq!(value["message"], "refusing");
    assert_eq!(value["level"], "WARN");
}

#[rstest]
#[case::line_feed("a\n2026-01-01 INFO forged")]
#[case::escape("a\u{1b}[2J\u{1b}]0;title\u{7}")]
#[case::c1_control("a\u{9b}2J")]
#[case::bidi("a\u{202e}b")]
fn fields_cannot_forge_a_line_or_drive_a_terminal(#[case] hostile: &str) {
    for style in [Style::Human { colour: false }, Style::Json] {
        let line = logged(
            style,
            || tracing::info!(sni = %hostile, what = hostile, "{hostile}"),
        );
        let line = if style == Style::Json {
            String::from_utf8(ascii_json(&line)).unwrap()
        } else {
            line
        };
        let body = line.strip_suffix('\n').unwrap();
        assert!(
            body.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{body:?}"
        );
    }
}

proptest! {
    #[test]
    fn escaping_a_json_line_keeps_its_meaning(text in any::<String>()) {
        let line = serde_json::json!({"message": text}).to_string();
        let escaped = String::from_utf8(ascii_json(&line)).unwrap();
        prop_assert!(escaped.is_ascii());
        let value: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        prop_assert_eq!(value["message"].as_str().unwrap(), text);
    }
}
