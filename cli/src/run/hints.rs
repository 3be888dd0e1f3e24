//! What is said when a command failed and something had been refused to it.

use ersatz_daemon::control::Refused;

/// Says on standard error what was refused: all of it when asked to be verbose, else
/// one line, when the command failed.
pub(super) fn after(code: u8, refused: &[Refused], verbose: bool) {
    if verbose {
        for one in refused {
            eprintln!("ersatz: {}", each(one));
        }
    } else if let (true, Some(line)) = (code != 0, summary(refused)) {
        eprintln!("ersatz: {line}");
    }
}

fn each(refused: &Refused) -> String {
    format!("refused {}, {} times", what(refused), refused.count)
}

/// How much, and the first of it.
fn summary(refused: &[Refused]) -> Option<String> {
    let total: u64 = refused.iter().map(|one| one.count).sum();
    let requests = if total == 1 {
        "request was"
    } else {
        "requests were"
    };
    Some(format!(
        "{total} {requests} refused ({}); see --audit",
        what(refused.first()?)
    ))
}

/// The reason, and what was asked for, as the sandbox wrote it and so escaped.
fn what(refused: &Refused) -> String {
    let target = refused.target.strip_suffix('.').unwrap_or(&refused.target);
    format!("{} {}", refused.reason, target.escape_debug())
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
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn the_first_refusal_stands_for_all() {
        let all = [refused(2, "evil.example."), refused(1, "other.example")];
        let expected = "3 requests were refused (host-not-allowed evil.example); see --audit";
        assert_eq!(summary(&all).as_deref(), Some(expected));
    }

    #[test]
    fn a_name_that_the_sandbox_chose_cannot_write_to_the_terminal() {
        let text = summary(&[refused(1, "\u{1b}[2J")]).expect("a line");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
