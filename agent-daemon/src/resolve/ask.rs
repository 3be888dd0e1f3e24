//! One name asked for: both families at once, the hosts file first.

use std::{net::IpAddr, pin::pin, sync::Arc, time::Duration};

use ersatz_policy::Name;
use futures_util::future::{Either, select};
use hickory_resolver::{
    Hosts, TokioResolver,
    lookup::Lookup,
    net::{DnsError, NetError},
    proto::{
        op::{Query, ResponseCode},
        rr::{Name as DnsName, RData, RecordType},
    },
};
use tokio::time::timeout;

use super::{ResolveError, upstream::Upstream};

/// Addresses kept of one name: dialling tries them one after the other, and nobody waits for more.
const ADDRESSES: usize = 16;

/// How long an answer is kept, whatever its own time to live.
const KEEP_LEAST: Duration = Duration::from_secs(1);
const KEEP_MOST: Duration = Duration::from_mins(5);

/// How long a "no such name" is kept at most: people wait for a record that they have just made.
const KEEP_NO: Duration = Duration::from_secs(30);

/// How long a failure is kept: a failing resolver is not asked again for each of a burst of connections.
const KEEP_FAILURE: Duration = Duration::from_secs(1);

/// How long an answer of one family is kept when the other family did not come in time.
const KEEP_HALF: Duration = Duration::from_secs(5);

/// How long the second family is waited for once the first is there; RFC 8305 section 3 says 50 ms.
const SECOND_FAMILY: Duration = Duration::from_millis(50);

type Outcome = (Result<Arc<[IpAddr]>, ResolveError>, Duration);

/// Asks for `name`; says what came of it and how long that may be kept.
pub(super) async fn ask(upstream: &Upstream, name: &Name) -> Outcome {
    let Ok(mut asked) = DnsName::from_ascii(name.as_str()) else {
        return (Err(ResolveError::NotFound), KEEP_NO);
    };
    // Search domains are not for us: the name is the authority that the policy decided on.
    asked.set_fqdn(true);
    let current = upstream.current();
    let known = from_hosts(&current.hosts, &asked);
    if !known.is_empty() {
        return (Ok(known.into()), KEEP_LEAST);
    }
    match &current.resolver {
        Some(resolver) => both_families(resolver, &asked).await,
        None => (Err(ResolveError::Failed), KEEP_FAILURE),
    }
}

/// A name in the hosts file is not asked for elsewhere, also not in the other family.
fn from_hosts(hosts: &Hosts, name: &DnsName) -> Vec<IpAddr> {
    let of = |family| {
        let found = hosts.lookup_static_host(&Query::query(name.clone(), family));
        found
            .iter()
            .flat_map(Lookup::answers)
            .filter_map(|record| record.data.ip_addr())
            .collect::<Vec<_>>()
    };
    in_turn(&of(RecordType::AAAA), &of(RecordType::A))
}

async fn both_families(resolver: &TokioResolver, name: &DnsName) -> Outcome {
    let v6 = pin!(one_family(resolver, name, RecordType::AAAA));
    let v4 = pin!(one_family(resolver, name, RecordType::A));
    match select(v6, v4).await {
        Either::Left((v6, v4)) => {
            let v4 = second(&v6, v4).await;
            together(v6, v4)
        }
        Either::Right((v4, v6)) => {
            let v6 = second(&v4, v6).await;
            together(v6, v4)
        }
    }
}

/// One family's addresses and how long they may be kept.
type Family = Result<(Vec<IpAddr>, Duration), (ResolveError, Duration)>;

/// Waits for the second family, though not for long when the first has addresses.
async fn second(first: &Family, second: impl Future<Output = Family>) -> Family {
    if first.is_err() {
        return second.await;
    }
    timeout(SECOND_FAMILY, second)
        .await
        .unwrap_or(Err((ResolveError::Timeout, KEEP_HALF)))
}

fn together(v6: Family, v4: Family) -> Outcome {
    match (v6, v4) {
        (Err((one, keep)), Err((other, keep_other))) => {
            // "Not found" is believed only when both families say so.
            let error = if one == ResolveError::NotFound {
                other
            } else {
                one
            };
            (Err(error), keep.min(keep_other))
        }
        (v6, v4) => {
            let keep = [&v6, &v4]
                .map(keep_of)
                .into_iter()
                .min()
                .unwrap_or(KEEP_LEAST);
            (Ok(in_turn(addresses(&v6), addresses(&v4)).into()), keep)
        }
    }
}

fn addresses(family: &Family) -> &[IpAddr] {
    family.as_ref().map_or(&[], |(addresses, _)| addresses)
}

fn keep_of(family: &Family) -> Duration {
    match family {
        Ok((_, keep)) => *keep,
        // A family that the name does not have is no reason to ask again soon.
        Err((ResolveError::NotFound, _)) => KEEP_MOST,
        Err(_) => KEEP_HALF,
    }
}

async fn one_family(resolver: &TokioResolver, name: &DnsName, family: RecordType) -> Family {
    let lookup = resolver
        .lookup(name.clone(), family)
        .await
        .map_err(|error| failure(&error))?;
    let addresses: Vec<_> = lookup
        .answers()
        .iter()
        .filter_map(|record| match (&record.data, family) {
            (RData::A(a), RecordType::A) => Some(IpAddr::V4(a.0)),
            (RData::AAAA(aaaa), RecordType::AAAA) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        })
        .take(ADDRESSES)
        .collect();
    if addresses.is_empty() {
        return Err((ResolveError::NotFound, KEEP_LEAST));
    }
    let left = lookup
        .valid_until()
        .saturating_duration_since(std::time::Instant::now());
    Ok((addresses, left.clamp(KEEP_LEAST, KEEP_MOST)))
}

fn failure(error: &NetError) -> (ResolveError, Duration) {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(no)) if is_no(no.response_code) => {
            let keep = Duration::from_secs(no.negative_ttl.unwrap_or(0).into());
            (ResolveError::NotFound, keep.clamp(KEEP_LEAST, KEEP_NO))
        }
        NetError::Timeout => (ResolveError::Timeout, KEEP_FAILURE),
        _ => (ResolveError::Failed, KEEP_FAILURE),
    }
}

fn is_no(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NXDomain | ResponseCode::NoError)
}

/// One of each in turn, IPv6 first: so that a dialler that goes down the list loses little when one family is dead.
fn in_turn(v6: &[IpAddr], v4: &[IpAddr]) -> Vec<IpAddr> {
    let longest = v6.len().max(v4.len());
    (0..longest)
        .flat_map(|index| [v6.get(index), v4.get(index)])
        .flatten()
        .copied()
        .take(ADDRESSES)
        .collect()
}
