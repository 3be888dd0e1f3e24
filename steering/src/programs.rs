//! The kernel programs: loaded, attached, pinned, and taken over.
//!
//! Pins below the instance's bpffs: `maps/NAME`, `abi`, `kept`, `gate_return`,
//! `gate_lookup`, and `in-IFINDEX` and `eg-IFINDEX` for each sandbox's link. A
//! link that is pinned stays attached without a process. A new process loads
//! its own programs on the pinned maps, attaches them in front of those that
//! are there, and takes the pins: there is no moment without a program.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, SockMap},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, SkLookup, TcAttachType,
        links::{FdLink, LinkError},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
    sys::SyscallError,
};
use ersatz_ebpf_common::{ABI_VERSION, Listener};

use crate::{
    Listeners, SteeringError,
    error::{self, path, program},
    instance::Instance,
    link::name_of,
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
    listeners: SockMap<MapData>,
    /// The links by their pins.
    held: BTreeMap<PathBuf, FdLink>,
}

/// Where a program belongs.
struct Place {
    program: &'static str,
    hook: TcAttachType,
    pin: PathBuf,
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
            listeners: SockMap::try_from(take(&mut ebpf, "LISTENERS")?)?,
            held: BTreeMap::new(),
            ebpf,
            pins,
        };
        programs.verified()
    }

    fn verified(mut self) -> Result<Self, SteeringError> {
        for name in [SANDBOX_INGRESS, SANDBOX_EGRESS, SANDBOX_SHUT, GATE_RETURN] {
            self.classifier(name)?.load().map_err(program("load"))?;
        }
        self.lookup()?.load().map_err(program("load"))?;
        Ok(self)
    }

    /// Where a map is pinned.
    pub(crate) fn map_pin(&self, name: &str) -> PathBuf {
        self.pins.join("maps").join(name)
    }

    /// The logger's end of the ring that the programs write to.
    pub(crate) fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Attaches the gate's programs; those of an earlier process then go.
    pub(crate) fn attach_gate(
        &mut self,
        namespace: impl AsFd,
        link: &str,
    ) -> Result<(), SteeringError> {
        let lookup = self.lookup()?;
        let id = lookup.attach(namespace).map_err(program("attach"))?;
        let attached: FdLink = lookup.take_link(id).map_err(program("attach"))?.into();
        self.hold(attached, self.pins.join(GATE_LOOKUP))?;
        self.attach(Place::gate(&self.pins), link)
    }

    /// Attaches both programs to a sandbox's link; those of an earlier process then go.
    pub(crate) fn attach_sandbox(&mut self, ifindex: u32) -> Result<(), SteeringError> {
        let link = name_of(ifindex)?;
        for place in Place::sandbox(&self.pins, ifindex) {
            if self.held.contains_key(&place.pin) {
                self.reassert(place, &link)?;
            } else {
                self.attach(place, &link)?;
            }
        }
        Ok(())
    }

    /// Attaches this process's programs to every sandbox's link that has a pin;
    /// the pins of a link that is gone are removed.
    pub(crate) fn refresh_sandboxes(&mut self) -> Result<(), SteeringError> {
        for ifindex in self.pinned()? {
            if name_of(ifindex).is_ok() {
                self.attach_sandbox(ifindex)?;
            } else {
                self.forget(ifindex);
            }
        }
        Ok(())
    }

    /// Makes sure that this process's programs come first on the link and are
    /// pinned, and attaches them anew where they are not; true if that was needed.
    pub(crate) fn reassert_sandbox(&mut self, ifindex: u32) -> Result<bool, SteeringError> {
        let link = name_of(ifindex)?;
        let mut needed = false;
        for place in Place::sandbox(&self.pins, ifindex) {
            needed |= self.reassert(place, &link)?;
        }
        Ok(needed)
    }

    /// The same for the host's end of the gate.
    pub(crate) fn reassert_gate(&mut self, link: &str) -> Result<bool, SteeringError> {
        self.reassert(Place::gate(&self.pins), link)
    }

    /// The sandboxes' links to which this process attached its programs.
    pub(crate) fn links(&self) -> Vec<u32> {
        let names = self.held.keys().filter_map(|pin| pin.file_name()?.to_str());
        names
            .filter_map(|name| name.strip_prefix("in-")?.parse().ok())
            .collect()
    }

    /// Whether both programs are attached to the link for good.
    pub(crate) fn attached(&self, ifindex: u32) -> bool {
        let places = Place::sandbox(&self.pins, ifindex);
        places
            .iter()
            .all(|place| self.held.contains_key(&place.pin))
    }

    /// Removes the pins of a link that is gone.
    pub(crate) fn forget(&mut self, ifindex: u32) {
        for place in Place::sandbox(&self.pins, ifindex) {
            // Absent is what is wanted.
            let _ = fs::remove_file(&place.pin);
            self.held.remove(&place.pin);
        }
    }

    /// Lets go of all links: from now on only their pins hold them.
    pub(crate) fn release(&mut self) {
        self.held.clear();
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

    /// Attaches a program in front of all others, and then takes the pin from
    /// the link of an earlier process, which ends. So there is no moment without one.
    fn attach(&mut self, place: Place, link: &str) -> Result<(), SteeringError> {
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let classifier = self.classifier(place.program)?;
        let id = classifier
            .attach_with_options(link, place.hook, first)
            .map_err(program("attach"))?;
        let attached = classifier.take_link(id).map_err(program("attach"))?;
        self.hold(descriptor(attached)?, place.pin)
    }

    fn reassert(&mut self, place: Place, link: &str) -> Result<bool, SteeringError> {
        let (_, present) =
            SchedClassifier::query_tcx(link, place.hook).map_err(program("look for"))?;
        let own = self.classifier(place.program)?.info();
        let own = own.map_err(program("look for"))?.id();
        let mut places = present.iter().map(aya::programs::ProgramInfo::id);
        match (
            places.position(|id| id == own),
            self.held.remove(&place.pin),
        ) {
            (Some(0), Some(held)) if place.pin.exists() => {
                self.held.insert(place.pin, held);
                return Ok(false);
            }
            (Some(0), Some(held)) => self.hold(held, place.pin)?,
            (_, held) => {
                // Kept until the program is in front again.
                let _shut = held.map(|held| self.shut(held)).transpose()?;
                self.attach(place, link)?;
            }
        }
        Ok(true)
    }

    /// Makes a link drop everything; `None` if it was detached.
    fn shut(&mut self, held: FdLink) -> Result<Option<FdLink>, SteeringError> {
        let link = SchedClassifierLink::try_from(held)
            .map_err(|error| program("move")(link_error(error)))?;
        let shut = self.classifier(SANDBOX_SHUT)?;
        match shut.attach_to_link(link) {
            Ok(id) => descriptor(shut.take_link(id).map_err(program("move"))?).map(Some),
            Err(ProgramError::SyscallError(SyscallError { io_error, .. }))
                if io_error.raw_os_error() == Some(nix::libc::ENOLINK) =>
            {
                Ok(None)
            }
            Err(error) => Err(program("move")(error)),
        }
    }

    /// Pins a link, in the place of an older one. The process holds it as well,
    /// so that a pin that somebody removes opens nothing.
    fn hold(&mut self, link: FdLink, pin: PathBuf) -> Result<(), SteeringError> {
        let new = self.pins.join("new");
        if new.exists() {
            fs::remove_file(&new).map_err(path("remove", &new))?;
        }
        let link = link.pin(&new).map_err(error::pin(&new))?;
        fs::rename(&new, &pin).map_err(path("replace", &pin))?;
        self.held.insert(pin, link.into());
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

impl Place {
    fn gate(pins: &Path) -> Self {
        Self {
            program: GATE_RETURN,
            hook: TcAttachType::Ingress,
            pin: pins.join(GATE_RETURN),
        }
    }

    fn sandbox(pins: &Path, ifindex: u32) -> [Self; 2] {
        [
            Self {
                program: SANDBOX_INGRESS,
                hook: TcAttachType::Ingress,
                pin: pins.join(format!("in-{ifindex}")),
            },
            Self {
                program: SANDBOX_EGRESS,
                hook: TcAttachType::Egress,
                pin: pins.join(format!("eg-{ifindex}")),
            },
        ]
    }
}

/// The descriptor of an attached program.
fn descriptor(link: SchedClassifierLink) -> Result<FdLink, SteeringError> {
    FdLink::try_from(link).map_err(|error| program("attach")(link_error(error)))
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
const SANDBOX_SHUT: &str = "sandbox_shut";
const GATE_RETURN: &str = "gate_return";
const GATE_LOOKUP: &str = "gate_lookup";
const ABI: &str = "abi";
