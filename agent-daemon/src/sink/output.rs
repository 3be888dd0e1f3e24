//! Where a sink's lines go, opened so that nobody can divert them.
//!
//! A file may lie in a directory that a sandbox writes to. Its directory is
//! therefore opened once, the last component never followed when it is a
//! symbolic link, and a file with a second name refused: what is written as
//! root cannot be turned to another place by renaming things. A rotated file
//! is noticed by its name pointing elsewhere.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, statat},
    stdio,
};
use thiserror::Error;

/// How often a file's name is compared with the open file.
const CHECK_TIME: Duration = Duration::from_secs(1);

/// Where lines are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Appended to; made with mode 0600; opened anew after a rotation.
    File(PathBuf),
    Stdout,
    Stderr,
}

/// Why a sink could not be opened. The operator's to put right.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("cannot open {}", .0.display())]
    Open(PathBuf, #[source] io::Error),
    #[error("{} is neither a plain file with one name nor a pipe", .0.display())]
    NotPlain(PathBuf),
    #[error("cannot start a writing thread")]
    Thread(#[source] io::Error),
}

pub(super) struct Output {
    file: File,
    place: Option<Place>,
}

/// A file's directory, as it was at the start, and its name in there.
struct Place {
    path: PathBuf,
    dir: OwnedFd,
    name: OsString,
    checked: Instant,
}

impl Output {
    pub(super) fn open(target: Target) -> Result<Output, OpenError> {
        let (name, fd) = match target {
            Target::File(path) => return Output::open_file(path),
            Target::Stdout => ("standard output", stdio::stdout()),
            Target::Stderr => ("standard error", stdio::stderr()),
        };
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3)
            .map_err(|error| OpenError::Open(name.into(), error.into()))?;
        Ok(Output {
            file: fd.into(),
            place: None,
        })
    }

    fn open_file(path: PathBuf) -> Result<Output, OpenError> {
        let failed = |error| OpenError::Open(path.clone(), io::Error::from(error));
        let Some(name) = path.file_name().map(OsString::from) else {
            return Err(OpenError::NotPlain(path));
        };
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            openat(CWD, parent.unwrap_or(".".as_ref()), flags, Mode::empty()).map_err(failed)?;
        let place = Place {
            path,
            dir,
            name,
            checked: Instant::now(),
        };
        let file = place.open()?;
        Ok(Output {
            file,
            place: Some(place),
        })
    }

    /// Opens the file anew when its name no longer means the open file, or
    /// when told to. The old file stays in use when the new one is refused.
    pub(super) fn follow(&mut self, told: bool) -> Result<(), OpenError> {
        let Some(place) = &mut self.place else {
            return Ok(());
        };
        if !told && place.checked.elapsed() < CHECK_TIME {
            return Ok(());
        }
        place.checked = Instant::now();
        if place.moved(&self.file) {
            self.file = place.open()?;
        }
        Ok(())
    }

    /// Waits until a pipe takes bytes again, or so long.
    pub(super) fn writable_within(&self, time: Duration) {
        let mut file = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
        // What is wrong with the file is told by the next write.
        let _ = poll(&mut file, time);
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            Ok(0) if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            done => done,
        }
    }
}

impl Place {
    fn open(&self) -> Result<File, OpenError> {
        // NONBLOCK: a pipe that nobody reads must not hold up the start, and a full one
        // must not hold up the writer when it is to end.
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::CLOEXEC
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::NONBLOCK;
        let failed = |error| OpenError::Open(self.path.clone(), io::Error::from(error));
        let file = openat(&self.dir, &self.name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_nlink == 1 => Ok(file.into()),
            FileType::Fifo | FileType::CharacterDevice => Ok(file.into()),
            _ => Err(OpenError::NotPlain(self.path.clone())),
        }
    }

    fn moved(&self, file: &File) -> bool {
        let named = statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let open = fstat(file);
        match (named, open) {
            (Ok(named), Ok(open)) => (named.st_dev, named.st_ino) != (open.st_dev, open.st_ino),
            _ => true,
        }
    }
}
