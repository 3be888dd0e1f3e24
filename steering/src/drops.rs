//! The counters of dropped frames, read beside everything else.

use std::path::Path;

use aya::maps::{Map, MapData, PerCpuArray};
use ersatz_ebpf_common::DropReason;

use crate::SteeringError;

pub(crate) struct Drops {
    counters: PerCpuArray<MapData, u64>,
}

impl Drops {
    /// Opens the pinned counters.
    pub(crate) fn open(pin: &Path) -> Result<Self, SteeringError> {
        let map = Map::from_map_data(MapData::from_pin(pin)?)?;
        Ok(Self {
            counters: PerCpuArray::try_from(map)?,
        })
    }

    /// Frames by reason, summed over the CPUs.
    pub(crate) fn counted(&self) -> Vec<(DropReason, u64)> {
        let count = |reason: &DropReason| {
            let counted = self.counters.get(&reason.index(), 0);
            counted.map_or(0, |cpus| cpus.iter().sum())
        };
        DropReason::ALL
            .iter()
            .map(|reason| (*reason, count(reason)))
            .collect()
    }
}
