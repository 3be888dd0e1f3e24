//! Which slot is whose: the daemon's copy of the kernel's table.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

use ersatz_ebpf_common::{Sandbox, restored_v4, restored_v6, slot_of_v4, slot_of_v6};

use crate::{SandboxId, SteeringError};

/// The slots, those in use and those to be used next.
pub(crate) struct Table {
    entries: Vec<Entry>,
    /// The one that has been free the longest comes first.
    free: VecDeque<u16>,
    by_link: HashMap<u32, u16>,
    next_epoch: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    record: Sandbox,
    /// Enrolled by this process, not just left by the last.
    served: bool,
}

impl Table {
    /// The table as the kernel's records show it, with nobody served yet.
    pub(crate) fn new(records: Vec<Sandbox>) -> Self {
        let next_epoch = records.iter().map(|record| record.epoch).max().unwrap_or(0) + 1;
        let mut free: Vec<(u32, u16)> = Vec::new();
        let mut by_link = HashMap::new();
        for (slot, record) in (0..).zip(&records) {
            if record.ifindex == 0 {
                free.push((record.epoch, slot));
            } else {
                by_link.insert(record.ifindex, slot);
            }
        }
        free.sort_unstable();
        Self {
            entries: records
                .into_iter()
                .map(|record| Entry {
                    record,
                    served: false,
                })
                .collect(),
            free: free.into_iter().map(|(_, slot)| slot).collect(),
            by_link,
            next_epoch,
        }
    }

    /// Takes the slot that has been free the longest.
    pub(crate) fn allocate(&mut self) -> Result<SandboxId, SteeringError> {
        let limit = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let slot = self.free.pop_front().ok_or(SteeringError::Full { limit })?;
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        Ok(SandboxId { slot, epoch })
    }

    /// Puts a sandbox of this process into its slot.
    pub(crate) fn serve(&mut self, id: SandboxId, record: Sandbox) {
        if let Some(entry) = self.entries.get_mut(usize::from(id.slot)) {
            *entry = Entry {
                record,
                served: true,
            };
            self.by_link.insert(record.ifindex, id.slot);
        }
    }

    /// Frees the slot; it becomes the last to be used again.
    pub(crate) fn release(&mut self, id: SandboxId) {
        if let Some(entry) = self.entries.get_mut(usize::from(id.slot)) {
            self.by_link.remove(&entry.record.ifindex);
            *entry = Entry {
                record: freed(id),
                served: false,
            };
            self.free.push_back(id.slot);
        }
    }

    /// The record of a live sandbox.
    pub(crate) fn record(&self, id: SandboxId) -> Option<Sandbox> {
        let entry = self.entries.get(usize::from(id.slot))?;
        let live = entry.record.ifindex != 0 && entry.record.epoch == id.epoch;
        live.then_some(entry.record)
    }

    /// Everything that has a link, and whether this process serves it.
    pub(crate) fn live(&self) -> Vec<(SandboxId, Sandbox, bool)> {
        (0..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.record.ifindex != 0)
            .map(|(slot, entry)| (id(slot, &entry.record), entry.record, entry.served))
            .collect()
    }

    /// The sandbox on a link, and whether this process serves it.
    pub(crate) fn on_link(&self, ifindex: u32) -> Option<(SandboxId, Sandbox, bool)> {
        let slot = *self.by_link.get(&ifindex)?;
        let entry = self.entries.get(usize::from(slot))?;
        Some((id(slot, &entry.record), entry.record, entry.served))
    }

    /// The sandbox whose namespace has this inode, which nobody serves.
    pub(crate) fn left_in(&self, netns_inode: u64) -> Option<(SandboxId, Sandbox)> {
        self.live()
            .into_iter()
            .find(|(_, record, served)| !served && record.netns_inode == netns_inode)
            .map(|(id, record, _)| (id, record))
    }

    /// The served sandbox behind a synthetic address.
    pub(crate) fn identify(&self, peer: IpAddr) -> Option<SandboxId> {
        let (slot, known) = match peer.to_canonical() {
            IpAddr::V4(address) => {
                let address = address.octets();
                let slot = slot_of_v4(address)?;
                let entry = self.entries.get(usize::from(slot))?;
                (slot, restored_v4(&entry.record, slot, address).is_some())
            }
            IpAddr::V6(address) => {
                let address = address.octets();
                let (slot, _) = slot_of_v6(&address)?;
                let entry = self.entries.get(usize::from(slot))?;
                (slot, restored_v6(&entry.record, slot, &address).is_some())
            }
        };
        let entry = self.entries.get(usize::from(slot))?;
        (known && entry.served).then(|| id(slot, &entry.record))
    }
}

/// What a freed slot remembers: its last epoch, so that no epoch comes twice.
pub(crate) fn freed(id: SandboxId) -> Sandbox {
    Sandbox {
        epoch: id.epoch,
        ..Sandbox::FREE
    }
}

fn id(slot: u16, record: &Sandbox) -> SandboxId {
    SandboxId {
        slot,
        epoch: record.epoch,
    }
}

#[cfg(test)]
mod tests {
    use ersatz_ebpf_common::{synthetic_v4, synthetic_v6};

    use super::*;

    const V4: [u8; 4] = [100, 64, 0, 2];
    const V6: [u8; 16] = [0xfd, 0, 0xe2, 0x5a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    fn enrol(table: &mut Table, ifindex: u32) -> SandboxId {
        let id = table.allocate().expect("a slot");
        let mut record = Sandbox {
            ifindex,
            epoch: id.epoch,
            ..Sandbox::FREE
        };
        record.v4[0] = V4;
        record.v6[0] = V6;
        table.serve(id, record);
        id
    }

    #[test]
    fn tells_sandboxes_with_the_same_address_apart() {
        let mut table = Table::new(vec![Sandbox::FREE; 3]);
        let (a, b) = (enrol(&mut table, 11), enrol(&mut table, 12));
        for id in [a, b] {
            let v4 = IpAddr::from(synthetic_v4(id.slot, V4));
            let v6 = IpAddr::from(synthetic_v6(id.slot, id.epoch, &V6));
            assert_eq!(table.identify(v4), Some(id));
            assert_eq!(table.identify(v6), Some(id));
        }
    }

    #[test]
    fn an_address_of_an_earlier_use_is_nobodys() {
        let mut table = Table::new(vec![Sandbox::FREE]);
        let old = enrol(&mut table, 11);
        table.release(old);
        let new = enrol(&mut table, 12);
        assert_eq!(old.slot, new.slot);
        let v6 = IpAddr::from(synthetic_v6(old.slot, old.epoch, &V6));
        assert_eq!(table.identify(v6), None);
    }

    #[test]
    fn the_slot_free_the_longest_is_used_first() {
        let mut table = Table::new(vec![Sandbox::FREE; 3]);
        let ids = [11, 12, 13].map(|link| enrol(&mut table, link));
        assert!(matches!(
            table.allocate(),
            Err(SteeringError::Full { limit: 3 })
        ));
        let [a, b, c] = ids;
        for id in [b, c, a] {
            table.release(id);
        }
        assert_eq!(enrol(&mut table, 14).slot, b.slot);
        // The next process sees the same order in the records' epochs.
        let mut records = vec![Sandbox::FREE; 3];
        for (record, epoch) in records.iter_mut().zip([9, 7, 8]) {
            record.epoch = epoch;
        }
        let id = Table::new(records).allocate().expect("a slot");
        assert_eq!((id.slot, id.epoch), (1, 10));
    }

    #[test]
    fn what_the_last_process_left_is_not_served() {
        let mut record = Sandbox {
            ifindex: 11,
            epoch: 4,
            netns_inode: 99,
            ..Sandbox::FREE
        };
        record.v4[0] = V4;
        let mut table = Table::new(vec![record]);
        let peer = IpAddr::from(synthetic_v4(0, V4));
        assert_eq!(table.identify(peer), None);
        let (id, record) = table.left_in(99).expect("the sandbox");
        table.serve(id, record);
        assert_eq!(table.identify(peer), Some(id));
        assert!(table.left_in(99).is_none());
    }
}
