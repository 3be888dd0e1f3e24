//! What is said when a command failed and something had been refused to it.

use ersatz_daemon::control::Refused;

/// Says on standard error what was refused, when the command failed.
pub(super) fn after(code: u8, refused: &[Refused]) {
    if code == 0 {
        return;
    }
    if let Some(line) = line(refused) {
        eprintln!("ersatz: {line}");
    }
}

/// One line: how much, and the first of it.
fn line(refused: &[Refused]) -> Option<String> {
    let total: u64 = refused.iter().map(|one| one.count).sum();
    let first = refused.first()?;
    let what = if total == 1 {
        "request was"
    } else {
        "requests were"
    };
    let target = first.target.escape_debug();
    Some(format!(
        "{total} {what} refused ({} {target}); see --audit",
        first.reason
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(count: u64, target: &str) -> Refused {
        Refused {
            reason: "host-not-allowed".to_owned(),
            target: target.to_owned(),
            count,
        }
    }

    #[test]
    fn nothing_refused_says_nothing() {
        assert_eq!(line(&[]), None);
    }

    #[test]
    fn the_first_refusal_stands_for_all() {
        let all = [refused(2, "evil.example"), refused(1, "other.example")];
        let expected = "3 requests were refused (host-not-allowed evil.example); see --audit";
        assert_eq!(line(&all).as_deref(), Some(expected));
    }

    #[test]
    fn a_name_that_the_sandbox_chose_cannot_write_to_the_terminal() {
        let text = line(&[refused(1, "\u{1b}[2J")]).expect("a line");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
