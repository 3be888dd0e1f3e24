//! The resources that a scenario gives to the daemon.

use std::{fs, io::Write as _, path::Path};

use anyhow::Result;

use super::Secrets;
use crate::world::names::{LINK_WORLD_V4, PREFIX_V4, PREFIX_V6};

/// What differs from scenario to scenario.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Items of `spec.credentials` of the policy `agents`.
    pub credentials: String,
    /// Items of `spec.allow` of the policy `agents`, as YAML.
    pub allow: String,
    /// Further documents.
    pub more: String,
    /// Blocks of private addresses that may be dialled.
    pub allow_private: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            credentials: "api, git, models, anthropic, openai".into(),
            allow: ALLOW.into(),
            more: String::new(),
            allow_private: vec![PREFIX_V4.into(), PREFIX_V6.into()],
        }
    }
}

/// One rule of every kind; `evil.test` is in none of them.
const ALLOW: &str = r#"
  - {hosts: [open.test, other.test, "*.wild.test", "*.many.test"]}
  - {hosts: [expired.test, future.test, selfsigned.test, wrongname.test, unknownca.test]}
  - {hosts: [node.test, loopback.test, metadata.test, private.test, mapped.test]}
  - {hosts: [registry.test], http: [{methods: [GET], paths: ["/packages/**"]}]}
  - {hosts: [pass.test], mode: passthrough}
  - {hosts: [db.test], ports: [5432, 5433], mode: tcp}
"#;

impl Settings {
    /// The usual ones with further rules.
    #[must_use]
    pub fn allowing(mut self, rules: &str) -> Self {
        self.allow.push_str(rules);
        self
    }

    /// Writes resources and secrets into `config/` and `secrets/`.
    pub(super) fn write(&self, directory: &Path, secrets: &Secrets) -> Result<()> {
        let config = directory.join("config");
        let vault = directory.join("secrets");
        fs::create_dir_all(&config)?;
        fs::create_dir_all(&vault)?;
        replace(&vault.join("api"), &secrets.api)?;
        replace(&vault.join("git"), &secrets.git)?;
        replace(&vault.join("models"), &secrets.models)?;
        replace(&vault.join("anthropic"), &secrets.anthropic)?;
        replace(&vault.join("openai"), &secrets.openai)?;
        replace(&config.join("credentials.yaml"), &credentials(&vault))?;
        replace(&config.join("node.yaml"), &self.node(directory))?;
        replace(&config.join("policy.yaml"), &self.policy())
    }

    fn node(&self, directory: &Path) -> String {
        let (directory, private) = (directory.display(), self.allow_private.join("\", \""));
        format!(
            "apiVersion: ersatz.dev/v1alpha1\nkind: NodeConfig\nmetadata: {{name: node}}\nspec:\n  \
             upstream:\n    roots: {{public: false, files: [{directory}/ca.pem]}}\n    \
             resolvers: [\"{LINK_WORLD_V4}\"]\n    allowPrivate: [\"{private}\"]\n  \
             audit: {{file: {directory}/audit.jsonl}}\n"
        )
    }

    fn policy(&self) -> String {
        let Self {
            credentials,
            allow,
            more,
            ..
        } = self;
        format!(
            "apiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: agents}}\n\
             spec:\n  credentials: [{credentials}]\n  allow:{allow}\n{more}"
        )
    }
}

fn credentials(vault: &Path) -> String {
    let vault = vault.display();
    format!(
        r#"apiVersion: ersatz.dev/v1alpha1
kind: Credential
metadata: {{name: api}}
spec:
  from: {{file: {{path: {vault}/api}}}}
  stub: {{env: API_TOKEN, shape: "ghp_[A-Za-z0-9]{{36}}"}}
  use:
  - {{hosts: [api.test, h1.test], in: [{{header: authorization}}]}}
---
apiVersion: ersatz.dev/v1alpha1
kind: Credential
metadata: {{name: git}}
spec:
  from: {{file: {{path: {vault}/git}}}}
  stub: {{env: GIT_PASSWORD}}
  use:
  - {{hosts: [git.test], in: [{{basic: password}}]}}
---
apiVersion: ersatz.dev/v1alpha1
kind: Credential
metadata: {{name: models}}
spec:
  from: {{file: {{path: {vault}/models}}}}
  stub: {{env: MODELS_KEY, shape: "sk-ant-[A-Za-z0-9_-]{{40}}"}}
  use:
  - {{hosts: [models.test], in: [{{header: x-api-key}}]}}
---
apiVersion: ersatz.dev/v1alpha1
kind: Credential
metadata: {{name: anthropic}}
spec:
  from: {{file: {{path: {vault}/anthropic}}}}
  stub: {{env: ANTHROPIC_API_KEY, shape: "sk-ant-api03-[A-Za-z0-9_-]{{40}}"}}
  use:
  - {{hosts: [api.anthropic.com], in: [{{header: x-api-key}}, {{header: authorization}}]}}
---
apiVersion: ersatz.dev/v1alpha1
kind: Credential
metadata: {{name: openai}}
spec:
  from: {{file: {{path: {vault}/openai}}}}
  stub: {{env: OPENAI_API_KEY, shape: "sk-proj-[A-Za-z0-9_-]{{40}}"}}
  use:
  - {{hosts: [api.openai.com], in: [{{header: authorization}}]}}
"#
    )
}

/// Writes a file beside and renames it: a reader sees the old or the new one.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
