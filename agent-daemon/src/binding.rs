//! From resources to what one sandbox may do: its policy, its stubs, its secrets.

use std::{collections::BTreeMap, sync::Arc};

use ersatz_api::{GrantedCredential, LoadErrors, Resources, Source};
use ersatz_policy::{CredentialName, Policy, Stub};

use crate::{inject::Stubs, sandboxes::Bound, secrets::Secrets};

/// Why a sandbox cannot be bound to a policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error(transparent)]
    Resources(#[from] LoadErrors),
    #[error("no randomness from the kernel")]
    Random(#[from] getrandom::Error),
}

/// Which policy a sandbox has, and the stubs that it holds for as long as it lives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Binding {
    /// `None` for the only one there is.
    pub(crate) policy: Option<String>,
    /// Stubs by credential; one that a later policy grants anew is added.
    pub(crate) stubs: BTreeMap<String, String>,
}

impl Binding {
    /// What the policy's credentials are read from.
    pub(crate) fn sources(
        &self,
        resources: &Resources,
    ) -> Result<Vec<(CredentialName, Source)>, LoadErrors> {
        let (_, granted) = resources.policy(self.policy.as_deref())?;
        Ok(granted
            .into_iter()
            .map(|granted| (granted.name, granted.source))
            .collect())
    }

    /// Compiles the policy and makes the stubs that are missing.
    pub(crate) fn bind(
        &mut self,
        resources: &Resources,
        secrets: Arc<Secrets>,
        generation: u64,
    ) -> Result<Bound, BindError> {
        let (policy, _) = resources.policy(self.policy.as_deref())?;
        let stubs = policy
            .credentials()
            .iter()
            .map(|credential| {
                let given = self.stubs.get(credential.name.as_str());
                let stub = match given.and_then(|text| credential.shape.restore(text)) {
                    Some(stub) => stub,
                    None => make(&credential.shape)?,
                };
                self.stubs
                    .insert(credential.name.to_string(), stub.as_str().to_owned());
                Ok((credential.name.clone(), stub))
            })
            .collect::<Result<Vec<(CredentialName, Stub)>, getrandom::Error>>()?;
        Ok(Bound {
            generation,
            policy,
            stubs: Stubs::new(stubs),
            secrets,
        })
    }
}

/// The variables in which a sandbox finds its stubs.
pub(crate) fn environment(bound: &Bound) -> BTreeMap<String, String> {
    let variables = bound.policy.credentials().iter().filter_map(|credential| {
        let variable = credential.stub_env.as_ref()?;
        Some((
            variable.clone(),
            bound.stubs.get(&credential.name)?.as_str().to_owned(),
        ))
    });
    variables.collect()
}

/// Everything that any policy of `resources` grants, to be read from its source.
pub(crate) fn granted(resources: &Resources) -> Result<Vec<(CredentialName, Source)>, LoadErrors> {
    let mut all = BTreeMap::new();
    for name in resources.policy_names() {
        let (_, granted) = resources.policy(Some(name))?;
        all.extend(
            granted
                .into_iter()
                .map(|GrantedCredential { name, source }| (name, source)),
        );
    }
    Ok(all.into_iter().collect())
}

/// The environment variables among the sources.
pub(crate) fn variables(sources: &[(CredentialName, Source)]) -> impl Iterator<Item = &str> {
    sources.iter().filter_map(|(_, source)| match source {
        Source::Env { name } => Some(name.as_str()),
        _ => None,
    })
}

/// What is in force when a policy is gone: nothing is allowed.
pub(crate) fn deny_all(name: &str, secrets: Arc<Secrets>, generation: u64) -> Bound {
    let policy = Policy::compile(name, Vec::new(), Vec::new())
        .expect("a policy without rules has nothing that could be wrong");
    Bound {
        generation,
        policy,
        stubs: Stubs::new(Vec::new()),
        secrets,
    }
}

fn make(shape: &ersatz_policy::Shape) -> Result<Stub, getrandom::Error> {
    let mut failed = None;
    let stub = shape.make(&mut |bytes| {
        if let Err(error) = getrandom::fill(bytes) {
            failed = Some(error);
        }
    });
    failed.map_or(Ok(stub), Err)
}
