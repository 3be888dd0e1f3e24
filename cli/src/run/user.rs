//! Whom the command runs as.

use std::ffi::{CString, OsString};

use anyhow::{Context, anyhow};
use nix::unistd::{Gid, Uid, User as Account, getgrouplist};
use serde::{Deserialize, Serialize};

use super::sudo;

/// The sandbox's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
    /// All groups of the user.
    pub groups: Vec<u32>,
    /// The account's name, when there is an account.
    pub name: Option<String>,
    /// The account's home directory.
    pub home: Option<OsString>,
    /// The account's shell.
    pub shell: Option<OsString>,
}

impl User {
    /// The user asked for, else the one who called sudo, else the calling user.
    pub fn of_sandbox(asked: Option<&str>) -> anyhow::Result<User> {
        if let Some(asked) = asked {
            return User::named(asked);
        }
        match sudo::caller() {
            Some((uid, gid)) => User::numbered(uid, gid),
            None => User::numbered(Uid::current(), Gid::current()),
        }
    }

    fn named(asked: &str) -> anyhow::Result<User> {
        if let Some(account) = Account::from_name(asked)? {
            return User::of_account(account);
        }
        let number = asked
            .parse()
            .map_err(|_| anyhow!("there is no user {asked:?}"))?;
        User::numbered(Uid::from_raw(number), Gid::from_raw(number))
    }

    /// A number may be without an account, as in containers: then `gid` is its only group.
    fn numbered(uid: Uid, gid: Gid) -> anyhow::Result<User> {
        match Account::from_uid(uid)? {
            Some(account) => User::of_account(account),
            None => Ok(User {
                uid: uid.as_raw(),
                gid: gid.as_raw(),
                groups: vec![gid.as_raw()],
                name: None,
                home: None,
                shell: None,
            }),
        }
    }

    fn of_account(account: Account) -> anyhow::Result<User> {
        let name = CString::new(account.name.as_str())?;
        let groups = getgrouplist(&name, account.gid)
            .with_context(|| format!("cannot list the groups of {}", account.name))?;
        Ok(User {
            uid: account.uid.as_raw(),
            gid: account.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            name: Some(account.name),
            home: Some(account.dir.into()),
            shell: Some(account.shell.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let by_name = User::of_sandbox(Some("root")).expect("root exists");
        assert_eq!(by_name, User::of_sandbox(Some("0")).expect("root exists"));
        assert!(by_name.groups.contains(&0));
    }

    #[test]
    fn a_number_without_an_account_has_one_group() {
        let user = User::of_sandbox(Some("54321")).expect("numbers are taken as they are");
        assert_eq!(
            (user.uid, user.gid, user.groups),
            (54321, 54321, vec![54321])
        );
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let error = User::of_sandbox(Some("no-such-user")).expect_err("unknown");
        assert_eq!(error.to_string(), "there is no user \"no-such-user\"");
    }
}
