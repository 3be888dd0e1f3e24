//! Streams stream, in both directions, at constant memory.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ersatz_tests::rig::{Daemon, Node, Running, python, text};

const GIB: u64 = 1 << 30;
/// What resident memory may grow by, whatever the size of a body.
const GROWTH: u64 = 16 << 20;
const PATIENCE: Duration = Duration::from_mins(5);

#[test]
fn events_arrive_when_they_are_sent() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let code = r#"
import json, os, time, httpx
late = []
with httpx.Client(http2=HTTP2, timeout=20) as c:
    headers = {"Authorization": "Bearer " + os.environ["API_TOKEN"]}
    with c.stream("GET", "https://api.test/sse?n=40&every_ms=25", headers=headers) as r:
        for line in r.iter_lines():
            if line.startswith("data: "):
                late.append(time.time() - json.loads(line[6:])["sent_us"] / 1e6)
late.sort()
print(len(late), "events, median", round(late[len(late) // 2] * 1000, 1), "ms, worst", round(late[-1] * 1000, 1))
assert len(late) == 40 and late[20] < 0.02 and late[-1] < 0.5, late"#;
    for http2 in ["False", "True"] {
        node.run(&[&python(), "-c", &code.replace("HTTP2", http2)])?
            .success()?;
    }
    Ok(())
}

#[test]
fn bytes_flow_both_ways_at_once() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    // Each part is sent only when the one before it has come back.
    let code = r#"
import asyncio, os, aiohttp
async def main():
    back = asyncio.Queue()
    async def parts():
        for number in range(20):
            yield b"part %d\n" % number
            assert await asyncio.wait_for(back.get(), 5) == b"part %d\n" % number
    async with aiohttp.ClientSession() as s:
        headers = {"Authorization": "Bearer " + os.environ["API_TOKEN"]}
        async with s.post("https://api.test/stream", data=parts(), headers=headers) as r:
            async for part in r.content:
                await back.put(part)
    print("done")
asyncio.run(main())"#;
    assert_eq!(
        node.run(&[&python(), "-c", code])?.success()?.trim(),
        "done"
    );
    Ok(())
}

#[test]
fn web_sockets_pass_their_frames_through() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let code = r#"
import asyncio, os, aiohttp
async def main():
    headers = {"Authorization": "Bearer " + os.environ["API_TOKEN"]}
    async with aiohttp.ClientSession() as s:
        async with s.ws_connect("https://api.test/ws", headers=headers) as ws:
            for size in (0, 1, 125, 126, 65535, 65536, 1000000):
                await ws.send_bytes(b"x" * size)
                assert await ws.receive_bytes(timeout=10) == b"x" * size
            await ws.send_str("hello")
            print(await ws.receive_str(timeout=10))
            await ws.close()
asyncio.run(main())"#;
    assert_eq!(
        node.run(&[&python(), "-c", code])?.success()?.trim(),
        "hello"
    );
    let record = node.audit_with(|record| text(record, "path") == "/ws")?;
    assert_eq!(text(&record, "status"), "101", "{record}");
    Ok(())
}

#[test]
fn a_client_may_wait_for_continue() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let script = r#"head -c 1000000 /dev/zero | curl -sS -v --max-time 20 --http1.1 -T - \
        --expect100-timeout 10 -H "Expect: 100-continue" \
        -H "Authorization: Bearer $API_TOKEN" https://api.test/upload"#;
    let answer = node.shell(script)?;
    assert!(
        answer.stderr.contains("HTTP/1.1 100 Continue"),
        "{answer:?}"
    );
    assert!(answer.stdout.contains("\"bytes\":1000000"), "{answer:?}");
    Ok(())
}

#[test]
fn trailers_arrive() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    for protocol in ["--http1.1", "--http2"] {
        let script = format!(
            r#"curl -sS --max-time 20 {protocol} -D - -H "TE: trailers" \
            -H "Authorization: Bearer $API_TOKEN" https://api.test/trailers"#
        );
        let answer = node.shell(&script)?.success()?;
        assert!(
            answer.to_ascii_lowercase().contains("x-checksum: all-good"),
            "{protocol}: {answer}"
        );
    }
    Ok(())
}

#[test]
fn header_names_and_values_arrive_as_they_were_sent() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let script = r#"curl -sS --max-time 20 --http1.1 -A agent -H "X-FiRsT: 1" \
        -H "Authorization: Bearer $API_TOKEN" -H "x-second:   2" -H "X-FiRsT: 3" https://api.test/"#;
    node.shell(script)?.success()?;
    let ledger = node.ledger()?.with(&[("kind", "request")]);
    let head = ledger.field("raw_head").concat();
    let names = [
        "\r\nX-FiRsT: 1\r\n",
        "\r\nx-second: 2\r\n",
        "\r\nX-FiRsT: 3\r\n",
    ];
    assert!(names.iter().all(|name| head.contains(name)), "{head}");
    Ok(())
}

#[test]
fn a_gibibyte_each_way_leaves_memory_flat() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    for protocol in ["--http1.1", "--http2"] {
        let curl =
            format!(r#"curl -sS --max-time 250 {protocol} -H "Authorization: Bearer $API_TOKEN""#);
        let down = |bytes: u64| {
            format!(
                r#"{curl} -o /dev/null -w '%{{size_download}}' "https://api.test/download?bytes={bytes}""#
            )
        };
        let up =
            |bytes: u64| format!("head -c {bytes} /dev/zero | {curl} -T - https://api.test/upload");
        // Buffers, pools and code pages are there before it is measured.
        node.shell(&format!("{}; {}", down(64 << 20), up(64 << 20)))?
            .success()?;
        let start = daemon.memory()?;
        let (answer, peak) = watched(&node, &daemon, &down(GIB))?;
        ensure!(answer.trim() == GIB.to_string(), "{protocol}: {answer}");
        ensure!(
            peak < start + GROWTH,
            "{protocol} down: from {start} to {peak}"
        );
        let (answer, peak) = watched(&node, &daemon, &up(GIB))?;
        ensure!(
            answer.contains(&format!("\"bytes\":{GIB}")),
            "{protocol}: {answer}"
        );
        ensure!(
            peak < start + GROWTH,
            "{protocol} up: from {start} to {peak}"
        );
    }
    let bytes = daemon.metric("ersatz_bytes_total", &[])?;
    assert!(bytes > 4 * GIB, "{bytes}");
    Ok(())
}

/// Runs a script in a sandbox; gives what it printed and the daemon's peak memory.
fn watched(node: &Node, daemon: &Daemon<'_>, script: &str) -> Result<(String, u64)> {
    let running = Running::start(node.sandboxed(&["sh", "-c", script]))?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !over.load(Ordering::Relaxed) {
                peak = peak.max(daemon.memory().unwrap_or(u64::MAX));
                thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        let finished = running.finish(PATIENCE);
        over.store(true, Ordering::Relaxed);
        let peak = watcher.join().ok().context("the watcher ended")?;
        Ok((finished?.success()?, peak))
    })
}

#[test]
fn an_upstream_that_breaks_off_ends_one_request_only() -> Result<()> {
    let node = Node::new()?;
    let mut daemon = node.daemon()?;
    let script = r#"for protocol in --http1.1 --http2; do
        curl -sS --max-time 20 $protocol -o /dev/null -H "Authorization: Bearer $API_TOKEN" \
          "https://api.test/breakoff?after=100"; echo "broke off: $?"
        curl -sS --max-time 20 $protocol -H "Authorization: Bearer $API_TOKEN" https://api.test/
        done"#;
    let answer = node.shell(script)?.success()?;
    assert_eq!(answer.matches("\"ok\":true").count(), 2, "{answer}");
    assert!(
        !answer.contains("broke off: 0"),
        "the client learns of it: {answer}"
    );
    assert!(daemon.is_alive());
    Ok(())
}
