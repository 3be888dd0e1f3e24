//! The kernel programs: loaded, attached, pinned, and taken over.
//!
//! Pins below the instance's bpffs: `maps/NAME`, `abi`, `kept`, `gate_return`,
//! `gate_lookup`, and `in-IFINDEX` and `eg-IFINDEX` for each sandbox's link. A
//! link that is pinned stays attached without a process. A new process loads
//! its own programs on the pinned maps and swaps them into the pinned links,
//! so there is no moment without a program.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, SockMap},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, SkLookup, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
    sys::SyscallError,
};
use ersatz_ebpf_common::{ABI_VERSION, Listener};
use nix::net::if_::if_indextoname;

use crate::{
    Listeners, SteeringError,
    error::{self, path, program, system},
    instance::Instance,
    record::Record,
};

/// The object that `build.rs` made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ersatz-ebpf.o"));

/// Maps that a new process takes over.
const SHARED: [&str; 5] = ["SANDBOXES", "LINKS", "LISTENERS", "INBOUND", "DROPS"];

/// The loaded programs and their maps.
pub(crate) struct Programs {
    ebpf: Ebpf,
    pins: PathBuf,
    pub(crate) sandboxes: Array<MapData, Record>,
    pub(crate) links: HashMap<MapData, u32, u32>,
    pub(crate) drops: PerCpuArray<MapData, u64>,
    listeners: SockMap<MapData>,
}

/// On which side of a sandbox's link a program is.
#[derive(Clone, Copy)]
enum Side {
    Ingress,
    Egress,
}

impl Programs {
    /// Loads the programs on the pinned maps; on new ones if those are of another ABI.
    pub(crate) fn load(instance: &Instance, gate_ifindex: u32) -> Result<Self, SteeringError> {
        let pins = instance.bpf();
        let maps = pins.join("maps");
        if !abi_matches(&pins) && maps.exists() {
            fs::remove_dir_all(&maps).map_err(path("remove", &maps))?;
        }
        fs::create_dir_all(&maps).map_err(path("make the directory", &maps))?;
        let mut loader = EbpfLoader::new();
        let level = crate::log::level();
        loader
            .override_global("GATE_IFINDEX", &gate_ifindex, true)
            .override_global(aya_log::LEVEL, &level, true)
            .map_max_entries("SANDBOXES", instance.name().slots())
            .map_max_entries("LINKS", instance.name().slots())
            .map_max_entries("BUDGETS", instance.name().slots());
        for name in SHARED {
            loader.map_pin_path(name, maps.join(name));
        }
        let mut ebpf = loader.load(OBJECT)?;
        let programs = Self {
            sandboxes: Array::try_from(take(&mut ebpf, "SANDBOXES")?)?,
            links: HashMap::try_from(take(&mut ebpf, "LINKS")?)?,
            drops: PerCpuArray::try_from(take(&mut ebpf, "DROPS")?)?,
            listeners: SockMap::try_from(take(&mut ebpf, "LISTENERS")?)?,
            ebpf,
            pins,
        };
        programs.verified()
    }

    fn verified(mut self) -> Result<Self, SteeringError> {
        for name in [SANDBOX_INGRESS, SANDBOX_EGRESS, GATE_RETURN] {
            self.classifier(name)?.load().map_err(program("load"))?;
        }
        self.lookup()?.load().map_err(program("load"))?;
        Ok(self)
    }

    /// The logger's end of the ring that the programs write to.
    pub(crate) fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Attaches the gate's programs, or swaps them into the links that are there.
    pub(crate) fn attach_gate(
        &mut self,
        namespace: impl AsFd,
        link: &str,
    ) -> Result<(), SteeringError> {
        self.replace_lookup(namespace)?;
        let pin = self.pins.join(GATE_RETURN);
        self.attach_classifier(GATE_RETURN, &pin, link, TcAttachType::Ingress)
    }

    /// Attaches both programs to a sandbox's link, first in order, and pins them.
    pub(crate) fn attach_sandbox(&mut self, ifindex: u32) -> Result<(), SteeringError> {
        let name = if_indextoname(ifindex).map_err(system("find a sandbox's link"))?;
        let name = name.to_string_lossy().into_owned();
        for side in [Side::Ingress, Side::Egress] {
            let pin = side.pin(&self.pins, ifindex);
            self.attach_classifier(side.program(), &pin, &name, side.hook())?;
        }
        Ok(())
    }

    /// Swaps this process's programs into every pinned link of a sandbox; a
    /// pin whose link is gone is removed.
    pub(crate) fn refresh_sandboxes(&mut self) -> Result<(), SteeringError> {
        for ifindex in self.pinned()? {
            for side in [Side::Ingress, Side::Egress] {
                let pin = side.pin(&self.pins, ifindex);
                if pin.exists() && !self.swap(side.program(), &pin)? {
                    fs::remove_file(&pin).map_err(path("remove", &pin))?;
                }
            }
        }
        Ok(())
    }

    /// Whether both programs are attached to the link for good.
    pub(crate) fn attached(&self, ifindex: u32) -> bool {
        [Side::Ingress, Side::Egress]
            .into_iter()
            .all(|side| side.pin(&self.pins, ifindex).exists())
    }

    /// Removes the pins of a link that is gone.
    pub(crate) fn forget(&self, ifindex: u32) {
        for side in [Side::Ingress, Side::Egress] {
            // Absent is what is wanted.
            let _ = fs::remove_file(side.pin(&self.pins, ifindex));
        }
    }

    /// Hands the daemon's sockets to the programs: from now on connections arrive.
    pub(crate) fn listen(&mut self, listeners: &Listeners) -> Result<(), SteeringError> {
        let map = &mut self.listeners;
        map.set(Listener::Tcp4 as u32, &listeners.tcp4, 0)?;
        map.set(Listener::Tcp6 as u32, &listeners.tcp6, 0)?;
        map.set(Listener::Udp4 as u32, &listeners.udp4, 0)?;
        map.set(Listener::Udp6 as u32, &listeners.udp6, 0)?;
        Ok(())
    }

    /// Takes the daemon's sockets from the programs: new connections wait.
    pub(crate) fn deafen(&mut self) {
        for index in 0..ersatz_ebpf_common::LISTENERS {
            // A closed socket has left the map by itself.
            let _ = self.listeners.clear_index(&index);
        }
    }

    /// Writes the ABI down: from now on these maps can be taken over.
    pub(crate) fn seal(&self) -> Result<(), SteeringError> {
        let pin = self.pins.join(ABI);
        if abi_matches(&self.pins) {
            return Ok(());
        }
        if pin.exists() {
            fs::remove_file(&pin).map_err(path("remove", &pin))?;
        }
        let mut abi = Array::<MapData, u32>::create(1, 0)?;
        abi.set(0, ABI_VERSION, 0)?;
        abi.pin(&pin).map_err(error::pin(&pin))?;
        Ok(())
    }

    /// The indices of all links that have a pin.
    fn pinned(&self) -> Result<Vec<u32>, SteeringError> {
        let entries = fs::read_dir(&self.pins).map_err(path("list", &self.pins))?;
        let mut indices: Vec<u32> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name();
                let (_, ifindex) = name.to_str()?.split_once('-')?;
                ifindex.parse().ok()
            })
            .collect();
        indices.sort_unstable();
        indices.dedup();
        Ok(indices)
    }

    /// `BPF_LINK_UPDATE` for a pinned tcx link, or a new link that gets the pin.
    fn attach_classifier(
        &mut self,
        name: &'static str,
        pin: &Path,
        link: &str,
        hook: TcAttachType,
    ) -> Result<(), SteeringError> {
        if pin.exists() {
            if self.swap(name, pin)? {
                return Ok(());
            }
            fs::remove_file(pin).map_err(path("remove", pin))?;
        }
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let classifier = self.classifier(name)?;
        let id = classifier
            .attach_with_options(link, hook, first)
            .map_err(program("attach"))?;
        let link: SchedClassifierLink = classifier.take_link(id).map_err(program("attach"))?;
        let link = FdLink::try_from(link).map_err(|error| program("attach")(link_error(error)))?;
        link.pin(pin).map_err(error::pin(pin))?;
        Ok(())
    }

    /// Puts the program into the pinned link; false if its device is gone.
    fn swap(&mut self, name: &'static str, pin: &Path) -> Result<bool, SteeringError> {
        let pinned =
            PinnedLink::from_pin(pin).map_err(|error| program("adopt")(link_error(error)))?;
        let link = SchedClassifierLink::try_from(FdLink::from(pinned))
            .map_err(|error| program("adopt")(link_error(error)))?;
        let classifier = self.classifier(name)?;
        match classifier.attach_to_link(link) {
            Ok(id) => {
                // The pin holds the link; this process needs no descriptor of it.
                drop(classifier.take_link(id));
                Ok(true)
            }
            Err(ProgramError::SyscallError(SyscallError { io_error, .. }))
                if io_error.raw_os_error() == Some(nix::libc::ENOLINK) =>
            {
                Ok(false)
            }
            Err(error) => Err(program("adopt")(error)),
        }
    }

    /// The look-up program of this process beside that of the last, which then
    /// goes: both give the same sockets, so no connection sees the change.
    fn replace_lookup(&mut self, namespace: impl AsFd) -> Result<(), SteeringError> {
        let pin = self.pins.join(GATE_LOOKUP);
        let lookup = self.lookup()?;
        let id = lookup.attach(namespace).map_err(program("attach"))?;
        let link: FdLink = lookup.take_link(id).map_err(program("attach"))?.into();
        if pin.exists() {
            fs::remove_file(&pin).map_err(path("remove", &pin))?;
        }
        link.pin(&pin).map_err(error::pin(&pin))?;
        Ok(())
    }

    fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, SteeringError> {
        let found = self.ebpf.program_mut(name).ok_or_else(missing)?;
        found.try_into().map_err(program("find"))
    }

    fn lookup(&mut self) -> Result<&mut SkLookup, SteeringError> {
        let found = self.ebpf.program_mut(GATE_LOOKUP).ok_or_else(missing)?;
        found.try_into().map_err(program("find"))
    }
}

impl Side {
    fn program(self) -> &'static str {
        match self {
            Self::Ingress => SANDBOX_INGRESS,
            Self::Egress => SANDBOX_EGRESS,
        }
    }

    fn hook(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }

    fn pin(self, pins: &Path, ifindex: u32) -> PathBuf {
        let prefix = match self {
            Self::Ingress => "in",
            Self::Egress => "eg",
        };
        pins.join(format!("{prefix}-{ifindex}"))
    }
}

/// Whether the pinned maps are of this ABI.
fn abi_matches(pins: &Path) -> bool {
    pinned_abi(&pins.join(ABI)) == Some(ABI_VERSION)
}

fn pinned_abi(pin: &Path) -> Option<u32> {
    let map = Map::from_map_data(MapData::from_pin(pin).ok()?).ok()?;
    Array::<_, u32>::try_from(map).ok()?.get(&0, 0).ok()
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, SteeringError> {
    ebpf.take_map(name).ok_or_else(missing)
}

/// The object lacks a program or map: it is not ours.
fn missing() -> SteeringError {
    SteeringError::System {
        action: "use the object of the kernel programs",
        source: io::ErrorKind::NotFound.into(),
    }
}

fn link_error(error: LinkError) -> ProgramError {
    match error {
        LinkError::SyscallError(error) => ProgramError::SyscallError(error),
        other => ProgramError::IOError(io::Error::other(other)),
    }
}

const SANDBOX_INGRESS: &str = "sandbox_ingress";
const SANDBOX_EGRESS: &str = "sandbox_egress";
const GATE_RETURN: &str = "gate_return";
const GATE_LOOKUP: &str = "gate_lookup";
const ABI: &str = "abi";
