//! State of the daemon that must outlive it, in kernel memory.
//!
//! A pinned array, written by user space alone: `ersatzd` keeps its
//! certificate authority here, so that the next process has the same one,
//! and no disk ever sees it. Its layout is apart from the programs' ABI.

use std::path::Path;

use aya::maps::{Array, MapData};

use crate::{SteeringError, error};

/// What is kept: one place each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The certificate authority: key and certificate.
    Ca,
}

/// How many bytes each place has.
pub(crate) const CAPACITY: usize = 2048;

const PLACES: u32 = 4;
const LENGTH: usize = 4;

type Bytes = [u8; LENGTH + CAPACITY];

pub(crate) struct Keeper {
    map: Array<MapData, Bytes>,
}

impl Keeper {
    /// Opens the pinned array, or makes it.
    pub(crate) fn open(pin: &Path) -> Result<Self, SteeringError> {
        if pin.exists() {
            let map = aya::maps::Map::from_map_data(MapData::from_pin(pin)?)?;
            return Ok(Self {
                map: Array::try_from(map)?,
            });
        }
        let map = Array::<MapData, Bytes>::create(PLACES, 0)?;
        map.pin(pin).map_err(error::pin(pin))?;
        let map = aya::maps::Map::from_map_data(MapData::from_pin(pin)?)?;
        Ok(Self {
            map: Array::try_from(map)?,
        })
    }

    /// Keeps `bytes`; false if they are too many.
    pub(crate) fn keep(&mut self, what: Kept, bytes: &[u8]) -> Result<bool, SteeringError> {
        let Ok(length) = u32::try_from(bytes.len()) else {
            return Ok(false);
        };
        let mut value = [0; LENGTH + CAPACITY];
        let (head, body) = value.split_at_mut(LENGTH);
        head.copy_from_slice(&length.to_ne_bytes());
        let Some(body) = body.get_mut(..bytes.len()) else {
            return Ok(false);
        };
        body.copy_from_slice(bytes);
        self.map.set(what as u32, value, 0)?;
        Ok(true)
    }

    /// What was kept, if anything was.
    pub(crate) fn kept(&self, what: Kept) -> Option<Vec<u8>> {
        let value = self.map.get(&(what as u32), 0).ok()?;
        let (head, body) = value.split_first_chunk::<LENGTH>()?;
        let length = usize::try_from(u32::from_ne_bytes(*head)).ok()?;
        (length > 0).then(|| body.get(..length).map(<[u8]>::to_vec))?
    }
}
