//! A sandbox that waits between its steps.

use std::{fs, marker::PhantomData, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};

use super::{Finished, Node, Running, wait_until};

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sandbox that runs a line of shell for each file that appears.
///
/// `step` says what to run next and waits for the end of it: so a test acts
/// between the steps of one and the same sandbox.
pub struct Stepwise<'n> {
    node: PhantomData<&'n Node>,
    running: Option<Running>,
    steps: PathBuf,
    next: usize,
}

impl<'n> Stepwise<'n> {
    /// Starts it; it has run its first, empty step when this returns.
    pub fn start(node: &'n Node) -> Result<Self> {
        let steps = tempfile::Builder::new()
            .prefix("steps-")
            .tempdir_in(node.directory())?
            .keep();
        let script = format!(
            r"cd {} && n=0 && while :; do
                 while [ ! -e $n ]; do sleep 0.01; done
                 sh ./$n > $n.out 2>&1; mv $n.out $n.done; n=$((n + 1))
               done",
            steps.display()
        );
        let running = Running::start(node.sandboxed(&["sh", "-c", &script]))?;
        let mut sandbox = Self {
            node: PhantomData,
            running: Some(running),
            steps,
            next: 0,
        };
        sandbox.step("true")?;
        Ok(sandbox)
    }

    /// Runs the script in the sandbox and gives what it printed.
    pub fn step(&mut self, script: &str) -> Result<String> {
        let file = self.steps.join(self.next.to_string());
        self.next += 1;
        let new = file.with_extension("new");
        fs::write(&new, script)?;
        fs::rename(new, &file)?;
        let done = file.with_extension("done");
        let output = wait_until(PATIENCE, || {
            let output = fs::read_to_string(&done).ok();
            let ended = !self.running.as_mut().is_some_and(Running::is_alive);
            (output.is_some() || ended).then_some(output)
        });
        match output.with_context(|| format!("no end of `{script}`"))? {
            Some(output) => Ok(output),
            None => bail!("the sandbox ended: {:?}", self.ended()),
        }
    }

    fn ended(&mut self) -> Option<Finished> {
        self.running.take()?.finish(PATIENCE).ok()
    }
}
