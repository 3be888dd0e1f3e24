//! `ersatz run` whose sandbox gets a stub and no link at all: for the tests of
//! everything but the network, which so need root but no eBPF.
//!
//! The credential `github` is read from `REAL_TOKEN` and its stub is in `GITHUB_TOKEN`.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    process::ExitCode,
};

use clap::Parser;
use ersatz::{
    exit, init,
    run::{self, Enrolment},
};
use ersatz_daemon::{
    control::Refused,
    enrol::{EnrolRequest, Enrolled},
};

/// Looks like a GitHub token, is none.
const STUB: &str = "ghp_stub0123456789012345678901234567";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: run::Options,
}

struct Unlinked;

impl run::Enroller for Unlinked {
    type Enrolment = Unlinked;

    async fn enrol(self, _: EnrolRequest, _: OwnedFd) -> anyhow::Result<(Unlinked, Enrolled)> {
        let enrolled = Enrolled {
            env: [("GITHUB_TOKEN".to_owned(), STUB.to_owned())].into(),
            stubs: [("github".to_owned(), STUB.to_owned())].into(),
            ca_pem: include_str!("../testdata/ca.pem").to_owned(),
            resolver: IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1)),
        };
        Ok((Unlinked, enrolled))
    }
}

impl Enrolment for Unlinked {
    async fn end(self) -> anyhow::Result<Vec<Refused>> {
        Ok(Vec::new())
    }
}

fn main() -> ExitCode {
    if init::is_meant() {
        return init::main();
    }
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return exit::failed(&error.into()),
    };
    let files = line.options.files.clone();
    run::with(line.options, &files, Unlinked).unwrap_or_else(|error| exit::failed(&error))
}
