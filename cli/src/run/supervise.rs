//! From the command's start to its end: signals in, stops and the exit code out.

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, raise};
use tokio::sync::mpsc;

use super::{
    launch::{Control, Orders, Reports},
    signals::Signals,
    terminal::Terminal,
};
use crate::init::{FromInit, ToInit};

/// Waits for the command's end and gives its exit code.
pub(super) async fn until_end(
    control: Control,
    mut signals: Signals,
    terminal: &Terminal,
) -> anyhow::Result<u8> {
    let (reports, mut orders) = control.split();
    let mut reports = receive(reports);
    loop {
        tokio::select! {
            report = reports.recv() => match report {
                Some(FromInit::Started) => {}
                Some(FromInit::Stopped(_)) => stop(&mut orders, terminal).await?,
                Some(FromInit::Ended(code)) => return Ok(code),
                Some(FromInit::Failed { code, message }) => {
                    eprintln!("ersatz: {message}");
                    return Ok(code);
                }
                None => bail!("the sandbox's first process was killed"),
            },
            signal = signals.next() => {
                if !signal.from_terminal || terminal.wants_own_group() {
                    orders.give(&ToInit::Signal(signal.number)).await?;
                }
            }
        }
    }
}

/// Reads in a task of its own, since half a report must not be lost to a signal.
fn receive(mut reports: Reports) -> mpsc::Receiver<FromInit> {
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok(Some(report)) = reports.next().await {
            if sender.send(report).await.is_err() {
                break;
            }
        }
    });
    receiver
}

/// Stops like the command did, and lets it go on when the caller's shell lets us.
async fn stop(orders: &mut Orders, terminal: &Terminal) -> anyhow::Result<()> {
    terminal.take_back();
    raise(Signal::SIGSTOP).context("cannot stop")?;
    let foreground = terminal.wants_own_group() && terminal.in_foreground();
    orders.give(&ToInit::Continue { foreground }).await?;
    Ok(())
}
