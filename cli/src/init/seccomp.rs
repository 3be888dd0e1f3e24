//! The system call filter.
//!
//! The sandbox holds by its namespaces and by having no capability; the filter
//! takes away what these leave: typing into the caller's terminal (`TIOCSTI`,
//! `TIOCLINUX`), keys of the caller's session keyring, sockets of families that
//! no network namespace confines (`AF_VSOCK` reaches a hypervisor), and the
//! parts of the kernel where flaws are found and that agents do not need. It is
//! a list of what is denied, so that unknown programs go on working.
//!
//! A pseudo-terminal in between would be the other defence against `TIOCSTI`;
//! it costs a copy of every byte and a second emulation of job control, so the
//! filter is both simpler and faster.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter, sock_filter,
};

/// Why the filter could not be installed.
pub(super) type FilterError = seccompiler::Error;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Denied without condition: kernel surface with no use in a sandbox.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
];

/// Answered as if the kernel had them not, for which callers have a fall-back.
///
/// `clone3` hides its flags from a filter; `io_uring` makes sockets past it.
const ABSENT: &[libc::c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
];

/// The families that a network namespace confines and programs use.
const FAMILIES: &[i32] = &[
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// Terminal requests that type into, or read from, the caller's terminal.
const TERMINAL: &[u64] = &[libc::TIOCSTI, libc::TIOCLINUX];

/// System calls of the x32 ABI carry this bit; no rule would match them.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Installs the filter for this process and all that it starts.
pub(super) fn install() -> Result<(), FilterError> {
    for program in programs()? {
        apply_filter(&program)?;
    }
    Ok(())
}

fn programs() -> Result<Vec<BpfProgram>, FilterError> {
    let mut families = Rules::new();
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        families.insert(call, vec![other_family()?]);
    }
    let mut forbidden = always(FORBIDDEN);
    for request in TERMINAL {
        let rule = when(1, SeccompCmpOp::Eq, *request)?;
        forbidden.entry(libc::SYS_ioctl).or_default().push(rule);
    }
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        forbidden.insert(call, vec![new_user_namespace()?]);
    }
    let mut forbidden = compile(forbidden, libc::EPERM)?;
    guard_x32(&mut forbidden);
    Ok(vec![
        compile(always(ABSENT), libc::ENOSYS)?,
        compile(families, libc::EAFNOSUPPORT)?,
        forbidden,
    ])
}

fn always(calls: &[libc::c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// Matches a family that is none of [`FAMILIES`].
fn other_family() -> Result<SeccompRule, FilterError> {
    let conditions: Result<Vec<_>, _> = FAMILIES
        .iter()
        .map(|family| condition(0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs())))
        .collect();
    Ok(SeccompRule::new(conditions?)?)
}

/// A user namespace gives its maker capabilities within it, and with them a large
/// part of the kernel to attack.
fn new_user_namespace() -> Result<SeccompRule, FilterError> {
    let flag = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    when(0, SeccompCmpOp::MaskedEq(flag), flag)
}

fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, FilterError> {
    Ok(SeccompRule::new(vec![condition(
        argument, operator, value,
    )?])?)
}

/// Compares 32 bits: the kernel ignores the upper half of these arguments.
fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, FilterError> {
    Ok(SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        operator,
        value,
    )?)
}

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram, FilterError> {
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

/// Puts "number >= X32: ENOSYS" before the program; it keeps the checks behind it.
#[cfg(target_arch = "x86_64")]
fn guard_x32(program: &mut BpfProgram) {
    let errno = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let guard = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, errno),
    ];
    program.splice(0..0, guard);
}

#[cfg(not(target_arch = "x86_64"))]
fn guard_x32(_program: &mut BpfProgram) {}

#[cfg(target_arch = "x86_64")]
fn statement(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_within_the_kernels_bound() {
        let programs = programs().expect("the rules are constant");
        assert_eq!(programs.len(), 3);
        assert!(programs.iter().all(|program| program.len() < 4096));
    }
}
