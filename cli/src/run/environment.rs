//! The command's environment: the caller's, without secrets, with stubs and trust.
//!
//! What goes: the variables that policies read secrets from, every variable
//! whose value contains one of these secrets, proxies (the sandbox has its own
//! way out), and the addresses of the caller's agents and sessions, whose
//! sockets the sandbox cannot reach anyway.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use anyhow::bail;
use ersatz_daemon::enrol::Enrolled;
use tracing::warn;
use zeroize::Zeroizing;

use super::{Options, User};
use crate::init::DIRECTORY;

/// A real secret that this process knows, to be kept out of the sandbox.
pub(super) struct Known {
    /// The credential that it belongs to.
    pub credential: String,
    /// The secret.
    pub value: Zeroizing<Vec<u8>>,
    /// The variable that it was read from, if it was.
    pub variable: Option<String>,
}

/// A secret shorter than this is looked for as a whole value only: short strings
/// stand in other values by chance.
const CONTAINED_FROM: usize = 8;

/// Variables that name our bundle, for tools that take it in the place of their own.
const BUNDLE: &[&str] = &[
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
    "npm_config_cafile",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "CODEX_CA_CERTIFICATE",
    "NIX_SSL_CERT_FILE",
];

/// Variables that name our authority alone, for tools that add it to their own.
const ADDED: &[&str] = &["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// What names a way out, an agent, a session or a service of the caller's.
const REMOVED: &[&str] = &[
    "ALL_PROXY",
    "CONTAINER_HOST",
    "CREDENTIALS_DIRECTORY",
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "DISPLAY",
    "DOCKER_HOST",
    "FTP_PROXY",
    "GPG_AGENT_INFO",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "NO_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
    "NPM_CONFIG_PROXY",
    "SSH_AGENT_PID",
    "SSH_AUTH_SOCK",
    "STY",
    "SUDO_COMMAND",
    "SUDO_GID",
    "SUDO_UID",
    "SUDO_USER",
    "TMUX",
    "TMUX_PANE",
    "VSCODE_IPC_HOOK_CLI",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_ID",
];

/// What remains with `--no-env`.
const ESSENTIAL: &[&str] = &["COLORTERM", "LANG", "LANGUAGE", "PATH", "TERM", "TZ"];

/// The path of a caller that has none.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// All that the environment is made of.
pub(super) struct Inputs<'a> {
    pub inherited: Vec<(OsString, OsString)>,
    pub options: &'a Options,
    pub user: &'a User,
    pub secrets: &'a [Known],
    pub enrolled: &'a Enrolled,
    /// The path that the caller had before sudo.
    pub path: Option<OsString>,
}

type Variables = BTreeMap<OsString, OsString>;

impl Inputs<'_> {
    /// Assembles the environment; fails when the command line itself holds a secret.
    pub(super) fn assemble(self) -> anyhow::Result<Vec<(OsString, OsString)>> {
        self.check_command()?;
        let mut variables = Variables::new();
        for (name, value) in &self.inherited {
            if let Some(value) = self.inherit(name, value) {
                variables.insert(name.clone(), value);
            }
        }
        self.name_user(&mut variables);
        trust(&mut variables);
        for (name, stub) in &self.enrolled.env {
            variables.insert(name.into(), stub.into());
        }
        Ok(variables.into_iter().collect())
    }

    /// The value under which a variable is passed on, if it is.
    fn inherit(&self, name: &OsStr, value: &OsStr) -> Option<OsString> {
        if self.is_source(name) || is_removed(name) || !self.is_asked_for(name) {
            return None;
        }
        let Some(known) = self.secrets.iter().find(|known| known.is_in(value)) else {
            return Some(value.to_owned());
        };
        let stub = self.enrolled.stubs.get(&known.credential);
        if let (true, Some(stub)) = (value.as_bytes() == &**known.value, stub) {
            return Some(stub.into());
        }
        warn!(variable = ?name, credential = %known.credential,
              "a variable contains a secret, the sandbox does not get it");
        None
    }

    fn is_source(&self, name: &OsStr) -> bool {
        self.secrets
            .iter()
            .any(|known| known.variable.as_deref().is_some_and(|one| name == one))
    }

    fn is_asked_for(&self, name: &OsStr) -> bool {
        !self.options.no_env
            || ESSENTIAL.iter().any(|one| name == *one)
            || name.as_bytes().starts_with(b"LC_")
            || self.options.keep_env.iter().any(|one| name == one)
    }

    /// The user's variables; a home that the caller set for itself is left as it is.
    fn name_user(&self, variables: &mut Variables) {
        let user = self.user;
        let caller = nix::unistd::Uid::current().as_raw() == user.uid;
        for (variable, value) in [
            ("HOME", user.home.clone()),
            ("USER", user.name.as_ref().map(OsString::from)),
            ("LOGNAME", user.name.as_ref().map(OsString::from)),
            ("SHELL", user.shell.clone()),
        ] {
            match value {
                Some(_) if caller && variables.contains_key(OsStr::new(variable)) => {}
                Some(value) => drop(variables.insert(variable.into(), value)),
                None => drop(variables.remove(OsStr::new(variable))),
            }
        }
        if let Some(path) = &self.path {
            variables.insert("PATH".into(), path.clone());
        }
        variables
            .entry("PATH".into())
            .or_insert_with(|| PATH.into());
    }

    /// Other processes of the sandbox, and of this machine, can read a command line.
    fn check_command(&self) -> anyhow::Result<()> {
        for known in self.secrets {
            if self
                .options
                .command
                .iter()
                .any(|argument| known.is_in(argument))
            {
                bail!(
                    "the command line contains the secret of credential {}: write the variable \
                     of its stub there, in single quotes, for the command to expand",
                    known.credential
                );
            }
        }
        Ok(())
    }
}

impl Known {
    fn is_in(&self, value: &OsStr) -> bool {
        let (secret, value) = (&**self.value, value.as_bytes());
        secret == value
            || (secret.len() >= CONTAINED_FROM
                && value
                    .windows(secret.len())
                    .any(|part| part == &**self.value))
    }
}

/// Proxies are written in capitals or not.
fn is_removed(name: &OsStr) -> bool {
    let upper = name.as_bytes().to_ascii_uppercase();
    let proxy = upper.ends_with(b"_PROXY");
    REMOVED.iter().any(|one| {
        if proxy {
            one.as_bytes() == upper
        } else {
            name == *one
        }
    })
}

/// The variables by which tools find roots of trust.
fn trust(variables: &mut Variables) {
    for name in BUNDLE {
        variables.insert(name.into(), format!("{DIRECTORY}/bundle.pem").into());
    }
    for name in ADDED {
        variables.insert(name.into(), format!("{DIRECTORY}/ca.pem").into());
    }
    variables.insert("SSL_CERT_DIR".into(), format!("{DIRECTORY}/certs").into());
    let java = format!(
        "-Djavax.net.ssl.trustStore={DIRECTORY}/trust.p12 \
         -Djavax.net.ssl.trustStoreType=PKCS12"
    );
    let options = variables.entry("JAVA_TOOL_OPTIONS".into()).or_default();
    if !options.is_empty() {
        options.push(" ");
    }
    options.push(OsString::from_vec(java.into_bytes()));
}

#[cfg(test)]
mod tests;
