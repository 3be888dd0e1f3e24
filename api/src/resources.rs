//! All resources of a node or of one run.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ersatz_policy::{Credential, CredentialName, Grantor, Policy, PolicyError};
use serde::{Deserialize, Serialize};

use crate::credential::CredentialSpec;
use crate::decode::suggestion;
use crate::document::{Loaded, Spec, kind_of, located, name_path, spec_path};
use crate::egress_policy::EgressPolicySpec;
use crate::error::{LoadError, LoadErrors};
use crate::node_config::{NodeConfig, NodeConfigSpec};
use crate::place::{FieldPath, Marks, Place};
use crate::source::Source;
use crate::tree::{MAX_TEXT, Node, SyntaxError, parse};

/// Resources that were found to be valid, each by itself and all together.
///
/// They can be serialised and sent to a running daemon, which converts them again and so checks them again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    credentials: BTreeMap<String, Loaded<CredentialSpec>>,
    policies: BTreeMap<String, Loaded<EgressPolicySpec>>,
    node: Option<Loaded<NodeConfigSpec>>,
}

/// A credential that a policy grants, and where its secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedCredential {
    pub name: CredentialName,
    pub source: Source,
}

impl Resources {
    /// Loads files, and all `*.yaml` and `*.yml` of directories, in the order of their names.
    pub fn load<P: AsRef<Path>>(paths: &[P]) -> Result<Self, LoadErrors> {
        let mut resources = Self::default();
        let mut errors = Vec::new();
        for path in paths.iter().map(AsRef::as_ref) {
            for file in files_of(path).unwrap_or_else(|error| {
                errors.push(error);
                Vec::new()
            }) {
                match read(&file) {
                    Ok(text) => resources.add_text(
                        &file.to_string_lossy(),
                        &directory_of(&file),
                        &text,
                        &mut errors,
                    ),
                    Err(error) => errors.push(error),
                }
            }
        }
        resources.finish(errors)
    }

    /// Parses one text. Its name is shown in errors; relative paths in it start from the name's directory.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, LoadErrors> {
        let mut resources = Self::default();
        let mut errors = Vec::new();
        let base = Path::new(file_name)
            .parent()
            .unwrap_or(Path::new(""))
            .to_owned();
        resources.add_text(file_name, &base, text, &mut errors);
        resources.finish(errors)
    }

    /// The names of the policies, in alphabetical order.
    pub fn policy_names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    /// The names of the credentials, in alphabetical order.
    pub fn credential_names(&self) -> impl Iterator<Item = &str> {
        self.credentials.keys().map(String::as_str)
    }

    /// A policy as it is written.
    pub fn policy_spec(&self, name: &str) -> Option<&EgressPolicySpec> {
        self.policies.get(name).map(|policy| &policy.spec)
    }

    /// A credential as it is written.
    pub fn credential_spec(&self, name: &str) -> Option<&CredentialSpec> {
        self.credentials
            .get(name)
            .map(|credential| &credential.spec)
    }

    /// Compiles the named policy, or the only one there is.
    pub fn policy(
        &self,
        name: Option<&str>,
    ) -> Result<(Policy, Vec<GrantedCredential>), LoadErrors> {
        let policy = self
            .choose(name)
            .map_err(|error| LoadErrors::new(vec![error]))?;
        self.compile(policy).map_err(LoadErrors::new)
    }

    /// The node's settings; the defaults when no file has any.
    pub fn node(&self) -> Result<NodeConfig, LoadErrors> {
        match &self.node {
            Some(node) => node.compile().map_err(LoadErrors::new),
            None => Ok(NodeConfig::default()),
        }
    }

    /// Where a rule of a policy, or a use of a credential, is written.
    pub fn place_of(&self, policy: &str, grantor: &Grantor) -> Option<Place> {
        match grantor {
            Grantor::Rule(index) => Some(self.policies.get(policy)?.place(&rule_path(*index))),
            Grantor::Use { credential, index } => Some(
                self.credentials
                    .get(credential.as_str())?
                    .place(&use_path(*index)),
            ),
        }
    }

    fn add_text(&mut self, file: &str, base: &Path, text: &str, errors: &mut Vec<LoadError>) {
        if text.len() > MAX_TEXT {
            errors.push(LoadError::of_file(
                file,
                "the file is larger than 1 MiB".to_owned(),
            ));
            return;
        }
        for document in parse(text) {
            let added = match document {
                Ok(document) => self.add(document, file, base),
                Err(error) => Err(vec![syntax(error, file)]),
            };
            errors.extend(added.err().unwrap_or_default());
        }
    }

    fn add(&mut self, document: Node, file: &str, base: &Path) -> Result<(), Vec<LoadError>> {
        match kind_of(&document) {
            Ok("Credential") => insert(
                &mut self.credentials,
                "Credential",
                Loaded::decode(document, file, base)?,
            ),
            Ok("EgressPolicy") => insert(
                &mut self.policies,
                "EgressPolicy",
                Loaded::decode(document, file, base)?,
            ),
            Ok(_) => self.set_node(Loaded::decode(document, file, base)?),
            Err(problem) => Err(vec![located(problem, file, &Marks::of(&document))]),
        }
    }

    fn set_node(&mut self, node: Loaded<NodeConfigSpec>) -> Result<(), Vec<LoadError>> {
        if let Some(first) = &self.node {
            let message = format!(
                "there is one NodeConfig already, at {}",
                first.place(&name_path())
            );
            return Err(vec![node.error(
                name_path(),
                message,
                Some("keep one of the two".to_owned()),
            )]);
        }
        self.node = Some(node);
        Ok(())
    }

    /// Compiles every policy, so that what is wrong only in their combination is found as well. What is wrong
    /// with one resource makes others look wrong, so this waits until each is right by itself.
    fn finish(self, mut errors: Vec<LoadError>) -> Result<Self, LoadErrors> {
        if errors.is_empty() {
            errors = self
                .policies
                .values()
                .filter_map(|policy| self.compile(policy).err())
                .flatten()
                .collect();
        }
        LoadErrors::check(errors).map(|()| self)
    }

    fn choose(&self, name: Option<&str>) -> Result<&Loaded<EgressPolicySpec>, LoadError> {
        let names: Vec<&str> = self.policy_names().collect();
        let about = |message: String, hint: Option<String>| LoadError {
            hint,
            ..LoadError::of_file("policy", message)
        };
        match (name, self.policies.values().next()) {
            (_, None) => Err(about("the files hold no EgressPolicy".to_owned(), None)),
            (Some(name), _) => self.policies.get(name).ok_or_else(|| {
                about(
                    format!("there is no EgressPolicy {name:?}"),
                    suggestion(name, &names),
                )
            }),
            (None, Some(only)) if names.len() == 1 => Ok(only),
            (None, Some(_)) => Err(about(
                "there are several policies; name one".to_owned(),
                suggestion("", &names),
            )),
        }
    }

    fn compile(
        &self,
        policy: &Loaded<EgressPolicySpec>,
    ) -> Result<(Policy, Vec<GrantedCredential>), Vec<LoadError>> {
        let grants = policy.compile()?;
        let mut credentials: Vec<Arc<Credential>> = Vec::new();
        let mut sources = Vec::new();
        let mut errors = Vec::new();
        for (index, name) in grants.credentials.iter().enumerate() {
            match self.credential(policy, index, name) {
                Ok((credential, source)) => {
                    credentials.push(Arc::new(credential));
                    sources.push(GrantedCredential {
                        name: name.clone(),
                        source,
                    });
                }
                Err(found) => errors.extend(found),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let compiled = Policy::compile(&policy.metadata.name, credentials, grants.rules);
        compiled
            .map(|compiled| (compiled, sources))
            .map_err(|error| vec![self.policy_error(policy, &error)])
    }

    fn credential(
        &self,
        policy: &Loaded<EgressPolicySpec>,
        index: usize,
        name: &CredentialName,
    ) -> Result<(Credential, Source), Vec<LoadError>> {
        let Some(credential) = self.credentials.get(name.as_str()) else {
            let known: Vec<&str> = self.credentials.keys().map(String::as_str).collect();
            let hint = suggestion(name.as_str(), &known);
            let field = spec_path().field("credentials").item(index);
            return Err(vec![policy.error(
                field,
                format!("there is no Credential {:?}", name.as_str()),
                hint,
            )]);
        };
        credential.compile()
    }

    fn policy_error(&self, policy: &Loaded<EgressPolicySpec>, error: &PolicyError) -> LoadError {
        match error {
            PolicyError::Conflict {
                pattern,
                port,
                first,
                second,
            } => {
                let other = self
                    .place_of(&policy.metadata.name, first)
                    .map_or_else(String::new, |place| format!(" ({place})"));
                let message =
                    format!("{pattern} on port {port} is handled otherwise by {first}{other}");
                let hint = Some("a host and port is intercepted, passed through, plain or opaque: keep one of the two".to_owned());
                self.error_at(policy, second, message, hint)
            }
            PolicyError::Empty { grantor, .. }
            | PolicyError::PortZero(grantor)
            | PolicyError::BlockNotTcp(grantor) => {
                self.error_at(policy, grantor, error.to_string(), None)
            }
            PolicyError::Variable { second, .. } => {
                let field = spec_path().field("stub").field("env");
                self.error_in(policy, second, field, error.to_string())
            }
            PolicyError::Unused(name) | PolicyError::Twice(name) | PolicyError::Colon(name) => {
                self.error_in(policy, name, spec_path(), error.to_string())
            }
        }
    }

    fn error_at(
        &self,
        policy: &Loaded<EgressPolicySpec>,
        grantor: &Grantor,
        message: String,
        hint: Option<String>,
    ) -> LoadError {
        match grantor {
            Grantor::Rule(index) => policy.error(rule_path(*index), message, hint),
            Grantor::Use { credential, index } => LoadError {
                hint,
                ..self.error_in(policy, credential, use_path(*index), message)
            },
        }
    }

    fn error_in(
        &self,
        policy: &Loaded<EgressPolicySpec>,
        name: &CredentialName,
        field: FieldPath,
        message: String,
    ) -> LoadError {
        match self.credentials.get(name.as_str()) {
            Some(credential) => credential.error(field, message, None),
            None => policy.error(spec_path(), message, None),
        }
    }
}

fn rule_path(index: usize) -> FieldPath {
    spec_path().field("allow").item(index)
}

fn use_path(index: usize) -> FieldPath {
    spec_path().field("use").item(index)
}

fn insert<S: Spec>(
    map: &mut BTreeMap<String, Loaded<S>>,
    kind: &str,
    loaded: Loaded<S>,
) -> Result<(), Vec<LoadError>> {
    let name = loaded.metadata.name.clone();
    if let Some(first) = map.get(&name) {
        let message = format!(
            "there is a {kind} {name:?} already, at {}",
            first.place(&name_path())
        );
        return Err(vec![loaded.error(
            name_path(),
            message,
            Some("rename one of the two, or remove it".to_owned()),
        )]);
    }
    map.insert(name, loaded);
    Ok(())
}

fn syntax(error: SyntaxError, file: &str) -> LoadError {
    let place = Place {
        file: file.to_owned(),
        mark: error.mark,
    };
    LoadError {
        place,
        field: FieldPath::root(),
        message: error.message,
        hint: error.hint.map(str::to_owned),
    }
}

/// The file itself, or the resource files of a directory. Hidden files are left out: Kubernetes mounts have them.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable =
        |error: std::io::Error| LoadError::of_file(&path.to_string_lossy(), error.to_string());
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let hidden = file
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && file
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String, LoadError> {
    let failed =
        |error: std::io::Error| LoadError::of_file(&file.to_string_lossy(), error.to_string());
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the check of the size finds it; never all of an endless file.
    let limit = u64::try_from(MAX_TEXT)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    fs::File::open(file)
        .map_err(failed)?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| {
        LoadError::of_file(&file.to_string_lossy(), "the file is not UTF-8".to_owned())
    })
}

fn directory_of(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().map_or_else(PathBuf::new, Path::to_owned)
}

#[cfg(test)]
mod tests;
