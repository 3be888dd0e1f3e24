//! What is asked of the daemon, and what of it must stay out of the sandbox.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use ersatz_api::{GrantedCredential, NodeConfig, Resources, Source};
use ersatz_daemon::enrol::{EnrolRequest, SecretText};
use zeroize::Zeroizing;

use super::{Options, environment::Known};

/// Where a machine's own resources are, for a run without `-f` and without a daemon.
const CONFIGURATION: &str = "/etc/ersatz";

/// Bytes of a secret in a file that are looked for in the environment; more is no variable's.
const MAX_SECRET: u64 = 16 << 10;

/// The request, and what this process learnt while it made it.
pub(super) struct Gathered {
    pub request: EnrolRequest,
    pub secrets: Vec<Known>,
    /// Files that the sandbox must not see.
    pub hidden: Vec<PathBuf>,
    pub roots_pem: String,
}

/// Reads the resources in `files` and the secrets that the caller's environment holds.
///
/// Without files the sandbox gets the resources of a running daemon.
pub(super) fn gather(options: &Options, files: &[PathBuf]) -> anyhow::Result<Gathered> {
    let resources = (!files.is_empty())
        .then(|| Resources::load(files))
        .transpose()?;
    let granted = match &resources {
        Some(resources) => resources.policy(options.policy.as_deref())?.1,
        None => Vec::new(),
    };
    let node = resources.as_ref().map(Resources::node).transpose()?;
    Ok(Gathered {
        hidden: hidden(&granted, node.as_ref(), options),
        roots_pem: node.map_or(Ok(String::new()), |node| roots(&node.root_files))?,
        secrets: granted.iter().filter_map(known).collect(),
        request: EnrolRequest {
            name: name(options),
            policy: options.policy.clone(),
            resources,
            env: variables(&granted)?,
            stubs: BTreeMap::new(),
        },
    })
}

/// Files that are the daemon's alone: those of secrets, and the audit log.
fn hidden(
    granted: &[GrantedCredential],
    node: Option<&NodeConfig>,
    options: &Options,
) -> Vec<PathBuf> {
    let audit = options
        .audit
        .as_deref()
        .filter(|path| path.as_os_str() != "-");
    let audit = audit.or(node.and_then(|node| node.audit_file.as_deref()));
    let files = granted.iter().filter_map(file_of).chain(audit);
    files
        .filter_map(|file| std::path::absolute(file).ok())
        .collect()
}

/// The files of resources of this run; none leaves it to those of a running daemon.
pub(super) fn files(options: &Options, served: bool) -> anyhow::Result<Vec<PathBuf>> {
    if served || !options.files.is_empty() {
        return Ok(options.files.clone());
    }
    if Path::new(CONFIGURATION).is_dir() {
        return Ok(vec![CONFIGURATION.into()]);
    }
    bail!("no policy: name a file with -f, or start ersatzd (there is no {CONFIGURATION} either)");
}

fn name(options: &Options) -> String {
    let command = options
        .command
        .first()
        .map(Path::new)
        .and_then(Path::file_name);
    let fallback = || command.unwrap_or_default().to_string_lossy().into_owned();
    options.name.clone().unwrap_or_else(fallback)
}

/// The variables that hold secrets; each must be there.
fn variables(granted: &[GrantedCredential]) -> anyhow::Result<BTreeMap<String, SecretText>> {
    let mut variables = BTreeMap::new();
    for credential in granted {
        let Source::Env { name } = &credential.source else {
            continue;
        };
        match std::env::var(name) {
            Ok(value) if !value.is_empty() => {
                variables.insert(name.clone(), SecretText(Zeroizing::new(value)));
            }
            _ => bail!(
                "credential {} is read from the variable {name}, which is not set{}",
                credential.name,
                hint(name)
            ),
        }
    }
    Ok(variables)
}

fn hint(name: &str) -> String {
    match std::env::var_os("SUDO_UID") {
        Some(_) => {
            format!(": sudo removes variables, use `sudo --preserve-env={name} ersatz run …`")
        }
        None => String::new(),
    }
}

fn file_of(credential: &GrantedCredential) -> Option<&Path> {
    match &credential.source {
        Source::File { path } => Some(path),
        _ => None,
    }
}

/// The secret as far as this process can know it; a command's is the daemon's alone.
fn known(credential: &GrantedCredential) -> Option<Known> {
    let (value, variable) = match &credential.source {
        Source::Env { name } => (std::env::var(name).ok()?.into_bytes(), Some(name.clone())),
        Source::File { path } => (read(path).ok()?, None),
        Source::Exec { .. } => return None,
    };
    let value = Zeroizing::new(value.trim_ascii_end().to_vec());
    let credential = credential.name.as_str().to_owned();
    (!value.is_empty()).then_some(Known {
        credential,
        value,
        variable,
    })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(MAX_SECRET)
        .read_to_end(&mut content)?;
    Ok(content)
}

/// Roots that the node's settings add: hosts that pass through undecrypted show them to the sandbox.
fn roots(files: &[PathBuf]) -> anyhow::Result<String> {
    let mut all = String::new();
    for file in files {
        let pem = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the roots in {}", file.display()))?;
        all.push_str(&pem);
        all.push('\n');
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_sandbox_is_named_after_its_command() {
        let options = Line::parse_from(["run", "--", "/usr/bin/git", "push"]).options;
        assert_eq!(name(&options), "git");
        let options = Line::parse_from(["run", "--name", "mine", "--", "git"]).options;
        assert_eq!(name(&options), "mine");
    }

    #[test]
    fn a_missing_variable_is_named_with_its_credential() {
        let resources = Resources::parse(
            "p.yaml",
            "apiVersion: ersatz.dev/v1alpha1\nkind: Credential\nmetadata: {name: github}\nspec:\n  \
             from: {env: {name: ERSATZ_TEST_NO_SUCH_VARIABLE}}\n  stub: {env: GITHUB_TOKEN}\n  \
             use: [{hosts: [api.github.com], in: [{header: authorization}]}]\n---\n\
             apiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: p}\n\
             spec: {credentials: [github], allow: []}\n",
        )
        .expect("well-formed");
        let (_, granted) = resources.policy(None).expect("one policy");
        let error = variables(&granted).err().expect("not set").to_string();
        assert!(error.contains("credential github"), "{error}");
        assert!(error.contains("ERSATZ_TEST_NO_SUCH_VARIABLE"), "{error}");
    }
}
