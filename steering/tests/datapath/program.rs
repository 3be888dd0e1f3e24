//! The real program, run by the kernel on single frames, against the pure
//! decision; and what it costs.

use std::time::Duration;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, PerCpuArray, SockMap},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use ersatz_ebpf_common::{
    DropReason, Family, GATE_MAC, HOST_MAC, Sandbox, Transport, Verdict, arp_reply, flags, ingress,
    neighbour_advert, synthetic_v4, synthetic_v6,
};
use proptest::test_runner::{Config, TestRunner};

use crate::{
    frames::{
        ACK, Bytes, SYN, V4, V6, WORLD_V4, any_frame, ethernet, ipv4, sandbox, tcp, tcp_v4, tcp_v6,
    },
    node::Node,
};

pub(crate) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ersatz-ebpf.o"));

const NEXT: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

#[test]
fn the_program_does_what_the_decision_says() {
    let _node = Node::new();
    let mut kernel = Kernel::load();
    kernel.listen();
    for flags in [flags::ADMITTED, flags::ADMITTED | flags::INBOUND, 0] {
        let record = sandbox(LOOPBACK, flags);
        kernel.serve(record);
        let mut config = Config::with_cases(8000);
        config.failure_persistence = None;
        let mut runner = TestRunner::new(config);
        let outcome = runner.run(&any_frame(), |frame| {
            if kernel_takes(&frame) {
                let done = kernel.run("sandbox_ingress", &frame);
                assert_eq!(done, expected(&frame, &record), "{frame:02x?}");
            }
            Ok(())
        });
        outcome.unwrap();
    }
}

#[test]
fn without_a_listener_openings_wait_and_segments_go_on() {
    let _node = Node::new();
    let mut kernel = Kernel::load();
    let (verdict, _) = kernel.run("sandbox_ingress", &tcp_v4(443, SYN));
    assert_eq!((verdict, kernel.dropped(DropReason::NoListener)), (SHOT, 1));
    let (verdict, _) = kernel.run("sandbox_ingress", &tcp_v6(443, ACK));
    assert_eq!(verdict, REDIRECT);
    kernel.listen();
    let (verdict, _) = kernel.run("sandbox_ingress", &tcp_v4(443, SYN));
    assert_eq!(verdict, REDIRECT);
}

#[test]
fn what_goes_in_comes_back() {
    let _node = Node::new();
    let kernel = Kernel::load();
    let inward = |source, destination| {
        ethernet(
            [9; 6],
            [8; 6],
            0x0800,
            &ipv4(source, destination, 6, &tcp(443, 4000, ACK)),
        )
    };
    let there = inward(WORLD_V4, synthetic_v4(SLOT, V4));
    let (verdict, back) = kernel.run("gate_return", &there);
    assert_eq!(verdict, REDIRECT);
    let record = sandbox(LOOPBACK, 0);
    assert_eq!(
        (&back[..6], &back[6..12]),
        (&record.mac[..], &record.gateway_mac[..])
    );
    assert_eq!(back[30..34], V4);
    let (verdict, _) = kernel.run("gate_return", &inward(WORLD_V4, V4));
    assert_eq!(
        (verdict, kernel.dropped(DropReason::ReturnAddress)),
        (SHOT, 1)
    );
}

/// Not a benchmark to compare, but a guard: a loop or a look-up too many would
/// show. The kernel repeats a run on the frame that the last one left, so the
/// record is one for which that frame is right again.
#[test]
fn a_packet_costs_less_than_a_microsecond() {
    let _node = Node::new();
    let mut kernel = Kernel::load();
    kernel.listen();
    let mut record = sandbox(LOOPBACK, flags::ADMITTED);
    record.mac = HOST_MAC;
    record.v4 = [V4, synthetic_v4(SLOT, V4), [0; 4], [0; 4]];
    record.v6[1] = synthetic_v6(SLOT, record.epoch, &V6);
    kernel.serve(record);
    for (what, mut frame) in [
        ("segment, IPv4", tcp_v4(443, ACK)),
        ("segment, IPv6", tcp_v6(443, ACK)),
        ("opening, IPv4", tcp_v4(443, SYN)),
        ("opening, IPv6", tcp_v6(443, SYN)),
    ] {
        frame[6..12].copy_from_slice(&HOST_MAC);
        kernel.cheap(what, "sandbox_ingress", &frame);
    }
    record.v4 = [synthetic_v4(SLOT, V4), [0; 4], [0; 4], [0; 4]];
    kernel.serve(record);
    let packet = ipv4(WORLD_V4, record.v4[0], 6, &tcp(443, 4000, ACK));
    let back = ethernet([9; 6], [8; 6], 0x0800, &packet);
    kernel.cheap("return, IPv4", "gate_return", &back);
}

/// The kernel makes no packet of a frame that is shorter than its own IP header.
fn kernel_takes(frame: &[u8]) -> bool {
    let header = match frame[12..14] {
        [8, 0] => 20,
        [0x86, 0xdd] => 40,
        _ => 1,
    };
    frame.len() >= 14 + header
}

/// What the program has to return and to leave in the frame.
fn expected(frame: &[u8], record: &Sandbox) -> (i32, Vec<u8>) {
    let unchanged = frame.to_vec();
    match ingress(&Bytes(frame), record) {
        Verdict::Drop(_) => (SHOT, unchanged),
        Verdict::ToHost => (NEXT, unchanged),
        Verdict::AnswerArp(request) => {
            let mut after = unchanged;
            after[..42].copy_from_slice(&arp_reply(request, record));
            (REDIRECT, after)
        }
        Verdict::AnswerNeighbour(solicit) => {
            (REDIRECT, neighbour_advert(&solicit, record).to_vec())
        }
        Verdict::Steer(segment) => {
            if segment.transport != Transport::Segment && !record.has(flags::ADMITTED) {
                return (SHOT, unchanged);
            }
            let mut after = unchanged;
            after[..6].copy_from_slice(&GATE_MAC);
            after[6..12].copy_from_slice(&HOST_MAC);
            match segment.family {
                Family::V4 => after[26..30].copy_from_slice(&synthetic_v4(SLOT, V4)),
                Family::V6 => {
                    after[22..38].copy_from_slice(&synthetic_v6(SLOT, record.epoch, &V6));
                }
            }
            (REDIRECT, after)
        }
    }
}

/// The link on which the kernel pretends that frames arrive.
const LOOPBACK: u32 = 1;
const SLOT: u16 = 5;

/// The programs, loaded apart from any instance.
struct Kernel {
    ebpf: Ebpf,
    sockets: Vec<std::net::TcpListener>,
    datagrams: Vec<std::net::UdpSocket>,
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Record(Sandbox);

// SAFETY: integers and arrays of integers without padding, as its size assertion shows.
unsafe impl aya::Pod for Record {}

impl Kernel {
    fn load() -> Self {
        std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
            .unwrap();
        let mut ebpf = EbpfLoader::new()
            .override_global("AYA_LOG_LEVEL", &0_u8, true)
            .load(OBJECT)
            .unwrap();
        for name in ["sandbox_ingress", "sandbox_egress", "gate_return"] {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        let mut links = HashMap::<_, u32, u32>::try_from(ebpf.map_mut("LINKS").unwrap()).unwrap();
        links.insert(LOOPBACK, u32::from(SLOT), 0).unwrap();
        let mut kernel = Self {
            ebpf,
            sockets: Vec::new(),
            datagrams: Vec::new(),
        };
        kernel.serve(sandbox(LOOPBACK, flags::ADMITTED));
        kernel
    }

    fn serve(&mut self, record: Sandbox) {
        let map = self.ebpf.map_mut("SANDBOXES").unwrap();
        let mut sandboxes = Array::<_, Record>::try_from(map).unwrap();
        sandboxes.set(u32::from(SLOT), Record(record), 0).unwrap();
    }

    fn listen(&mut self) {
        let map = self.ebpf.map_mut("LISTENERS").unwrap();
        let mut listeners = SockMap::try_from(map).unwrap();
        for (index, address) in (0..).zip(["127.0.0.1:0", "[::1]:0"]) {
            let socket = std::net::TcpListener::bind(address).unwrap();
            listeners.set(index, &socket, 0).unwrap();
            self.sockets.push(socket);
            let socket = std::net::UdpSocket::bind(address).unwrap();
            listeners.set(index + 2, &socket, 0).unwrap();
            self.datagrams.push(socket);
        }
    }

    fn run(&self, program: &str, frame: &[u8]) -> (i32, Vec<u8>) {
        let program: &SchedClassifier = self.ebpf.program(program).unwrap().try_into().unwrap();
        let mut after = vec![0; 256];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut after),
                ..TestRunOptions::new()
            })
            .unwrap();
        after.truncate(usize::try_from(result.data_size_out).unwrap());
        (result.return_value.cast_signed(), after)
    }

    fn cheap(&self, what: &str, program: &str, frame: &[u8]) {
        let program: &SchedClassifier = self.ebpf.program(program).unwrap().try_into().unwrap();
        let run = |repeat| {
            let options = TestRunOptions {
                data_in: Some(frame),
                repeat,
                ..TestRunOptions::new()
            };
            program.test_run(options).unwrap()
        };
        run(1000);
        let result = run(10_000);
        println!("{what}: {:?} a packet", result.duration);
        assert_eq!(result.return_value.cast_signed(), REDIRECT, "{what}");
        assert!(result.duration < Duration::from_micros(1), "{what}");
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        let map = self.ebpf.map("DROPS").unwrap();
        let drops = PerCpuArray::<_, u64>::try_from(map).unwrap();
        drops.get(&reason.index(), 0).unwrap().iter().sum()
    }
}
