//! A witness: sees every frame that enters or leaves the namespace it runs in,
//! and writes a line for each.
//!
//! It is what shows that a sandbox reached nothing: not what the servers say,
//! but that no frame came.

use std::{
    fmt::Write as _,
    io::Write,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd as _,
    path::Path,
};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket,
};

/// Writes down frames until the process is ended.
pub fn watch(output: &Path, ready: impl FnOnce()) -> Result<()> {
    let mut output = std::fs::File::create(output).context("cannot write the capture")?;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .context("cannot open a packet socket")?;
    ready();
    let mut frame = vec![0; 65_536];
    loop {
        let (length, _) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame)?;
        writeln!(output, "{}", line(frame.get(..length).unwrap_or_default()))?;
    }
}

/// `tcp 10.0.0.1:1 > 10.0.0.2:2 flags=02 payload=0`, or what else it is.
fn line(frame: &[u8]) -> String {
    describe(frame).unwrap_or_else(|| format!("runt of {} bytes", frame.len()))
}

fn describe(frame: &[u8]) -> Option<String> {
    let ethertype = u16_at(frame, 12)?;
    let packet = frame.get(14..)?;
    match ethertype {
        0x0800 => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let source = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
            let target = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
            let length = usize::from(u16_at(packet, 2)?);
            let segment = packet.get(header..length.min(packet.len()))?;
            Some(transport(
                *packet.get(9)?,
                &source.to_string(),
                &target.to_string(),
                segment,
            ))
        }
        0x86dd => {
            let source = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?);
            let target = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?);
            let (source, target) = (format!("[{source}]"), format!("[{target}]"));
            Some(transport(
                *packet.get(6)?,
                &source,
                &target,
                packet.get(40..)?,
            ))
        }
        0x0806 => Some("arp".into()),
        other => Some(format!("ethertype {other:04x}")),
    }
}

fn transport(protocol: u8, source: &str, target: &str, segment: &[u8]) -> String {
    let name = match protocol {
        6 => "tcp",
        17 => "udp",
        1 => return format!("icmp {source} > {target}"),
        58 => return format!("icmp6 {source} > {target}"),
        other => return format!("protocol-{other} {source} > {target}"),
    };
    let mut text = String::from(name);
    let (from, to) = (
        u16_at(segment, 0).unwrap_or(0),
        u16_at(segment, 2).unwrap_or(0),
    );
    let _ = write!(text, " {source}:{from} > {target}:{to}");
    if protocol == 6 {
        let header = segment
            .get(12)
            .map_or(20, |offset| usize::from(offset >> 4) * 4);
        let flags = segment.get(13).copied().unwrap_or(0);
        let _ = write!(
            text,
            " flags={flags:02x} payload={}",
            segment.len().saturating_sub(header)
        );
    }
    text
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_is_described_with_addresses_flags_and_payload() {
        let mut frame = vec![0; 12];
        frame.extend([
            0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame.extend([
            0x30, 0x39, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(
            line(&frame),
            "tcp 10.0.0.1:12345 > 10.0.0.2:443 flags=02 payload=0"
        );
        assert_eq!(line(&[0; 5]), "runt of 5 bytes");
    }
}
