//! From rules and credentials to a [`Policy`].
//!
//! What cannot be decided, or would mean "all" by being empty, is an error here and never a guess later.

use std::collections::HashMap;
use std::sync::Arc;

use crate::index::{Grant, GrantKind, Index};
use crate::permit::Grantor;
use crate::{
    BasicPart, Credential, CredentialName, Destination, HostPattern, Mode, Placement, Policy,
    Requests, Rule, Use,
};

/// Why rules and credentials are no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{grantor}: `{list}` is empty, which would grant nothing")]
    Empty {
        grantor: Grantor,
        list: &'static str,
    },
    #[error("credential {0}: it has no use, so it would go nowhere")]
    Unused(CredentialName),
    #[error("credential {0} is granted twice")]
    Twice(CredentialName),
    #[error("the stubs of {first} and {second} have the same environment variable {variable}")]
    Variable {
        variable: String,
        first: CredentialName,
        second: CredentialName,
    },
    #[error("{0}: port 0 does not exist")]
    PortZero(Grantor),
    #[error("{0}: blocks of addresses need `mode: tcp`; all else is judged by name")]
    BlockNotTcp(Grantor),
    #[error("{first} and {second} handle {pattern} on port {port} in different ways")]
    Conflict {
        pattern: HostPattern,
        port: u16,
        first: Grantor,
        second: Grantor,
    },
    #[error("credential {0}: the user part of Basic ends at a colon, and its stubs may hold one")]
    Colon(CredentialName),
}

impl Policy {
    /// Compiles a policy. Its order of rules does not matter but in messages.
    pub fn compile(
        name: &str,
        credentials: Vec<Arc<Credential>>,
        rules: Vec<Rule>,
    ) -> Result<Self, PolicyError> {
        check_credentials(&credentials)?;
        let mut index = Index::default();
        for credential in &credentials {
            for (at, usage) in credential.uses.iter().enumerate() {
                add_use(&mut index, credential, at, usage)?;
            }
        }
        for (at, rule) in rules.into_iter().enumerate() {
            add_rule(&mut index, Grantor::Rule(at), rule)?;
        }
        Ok(Self {
            name: name.into(),
            credentials,
            index,
        })
    }
}

fn check_credentials(credentials: &[Arc<Credential>]) -> Result<(), PolicyError> {
    let mut variables: HashMap<&str, &CredentialName> = HashMap::new();
    for (at, credential) in credentials.iter().enumerate() {
        let name = &credential.name;
        if credential.uses.is_empty() {
            return Err(PolicyError::Unused(name.clone()));
        }
        if credentials.iter().take(at).any(|other| other.name == *name) {
            return Err(PolicyError::Twice(name.clone()));
        }
        let user = credential
            .uses
            .iter()
            .flat_map(|usage| &usage.placements)
            .any(|placement| *placement == Placement::Basic(BasicPart::User));
        if user && credential.shape.may_hold(b':') {
            return Err(PolicyError::Colon(name.clone()));
        }
        let Some(variable) = &credential.stub_env else {
            continue;
        };
        if let Some(first) = variables.insert(variable, name) {
            let (first, second) = (first.clone(), name.clone());
            return Err(PolicyError::Variable {
                variable: variable.clone(),
                first,
                second,
            });
        }
    }
    Ok(())
}

fn add_use(
    index: &mut Index,
    credential: &Credential,
    at: usize,
    usage: &Use,
) -> Result<(), PolicyError> {
    let grantor = Grantor::Use {
        credential: credential.name.clone(),
        index: at,
    };
    if usage.placements.is_empty() {
        return Err(PolicyError::Empty {
            grantor,
            list: "in",
        });
    }
    let kind = GrantKind::Use(credential.name.clone(), usage.clone());
    add_names(index, &usage.hosts, grant(grantor, &usage.ports, kind)?)
}

fn add_rule(index: &mut Index, grantor: Grantor, rule: Rule) -> Result<(), PolicyError> {
    let kind = match rule.mode {
        Mode::Intercept(Requests::Listed(list)) | Mode::Plaintext(Requests::Listed(list))
            if list.is_empty() =>
        {
            return Err(PolicyError::Empty {
                grantor,
                list: "http",
            });
        }
        Mode::Intercept(requests) => GrantKind::Intercept(requests),
        Mode::Plaintext(requests) => GrantKind::Plaintext(requests),
        Mode::Passthrough => GrantKind::Passthrough,
        Mode::Tcp => GrantKind::Tcp,
    };
    let grant = grant(grantor, &rule.ports, kind)?;
    match rule.to {
        Destination::Hosts(hosts) => add_names(index, &hosts, grant),
        Destination::Cidrs(_) if grant.kind != GrantKind::Tcp => {
            Err(PolicyError::BlockNotTcp(grant.grantor))
        }
        Destination::Cidrs(blocks) if blocks.is_empty() => Err(PolicyError::Empty {
            grantor: grant.grantor,
            list: "cidrs",
        }),
        Destination::Cidrs(blocks) => {
            let grant = Arc::new(grant);
            for block in blocks {
                index.add_block(block, &grant);
            }
            Ok(())
        }
    }
}

fn grant(grantor: Grantor, ports: &[u16], kind: GrantKind) -> Result<Grant, PolicyError> {
    if ports.is_empty() {
        return Err(PolicyError::Empty {
            grantor,
            list: "ports",
        });
    }
    if ports.contains(&0) {
        return Err(PolicyError::PortZero(grantor));
    }
    Ok(Grant {
        ports: ports.into(),
        kind,
        grantor,
    })
}

fn add_names(index: &mut Index, hosts: &[HostPattern], grant: Grant) -> Result<(), PolicyError> {
    if hosts.is_empty() {
        return Err(PolicyError::Empty {
            grantor: grant.grantor,
            list: "hosts",
        });
    }
    let grant = Arc::new(grant);
    for pattern in hosts {
        if let Some((other, port)) = index.add_name(pattern, &grant) {
            let (first, second) = (other.grantor.clone(), grant.grantor.clone());
            return Err(PolicyError::Conflict {
                pattern: pattern.clone(),
                port,
                first,
                second,
            });
        }
    }
    Ok(())
}
