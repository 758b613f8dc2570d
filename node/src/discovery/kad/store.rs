//! What this node keeps for others: who provides what, bounded, and nothing else.
//!
//! libp2p's own store refuses new keys for good once it has had its fill: what expires is taken
//! out only when somebody asks for it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::iter::Empty;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

/// Keys for which providers are kept. Guess: a helper of a few hundred nodes has room for all
/// their groups.
pub(crate) const MAX_KEYS: usize = 4_096;

/// Providers of one key: a way in, no member list. As Kademlia's k.
const MAX_PROVIDERS: usize = 20;

/// Addresses kept of one provider.
const MAX_ADDRESSES: usize = 16;

/// Bytes of a key. Ours have 32.
const MAX_KEY: usize = 64;

/// Provider records, those of this node among them.
#[derive(Debug)]
pub(crate) struct Providers {
    me: PeerId,
    keys: HashMap<RecordKey, Vec<ProviderRecord>>,
}

impl Providers {
    pub(crate) fn new(me: PeerId) -> Self {
        Self { me, keys: HashMap::new() }
    }

    /// Records of all keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// As many records as there may be.
    pub(crate) const CAP: usize = MAX_KEYS * MAX_PROVIDERS;

    /// Forgets what has expired.
    fn sweep(&mut self, now: Instant) {
        self.keys.retain(|_, records| {
            records.retain(|record| !record.is_expired(now));
            !records.is_empty()
        });
    }

    /// Whether there is room for one more key: what others announced and did not renew for
    /// longest goes for what this node announces itself.
    fn make_room(&mut self, own: bool) -> bool {
        if self.keys.len() < MAX_KEYS {
            return true;
        }
        self.sweep(Instant::now());
        if self.keys.len() >= MAX_KEYS && own {
            let foreign = |(_, records): &(&RecordKey, &Vec<ProviderRecord>)| {
                records.iter().all(|record| record.provider != self.me)
            };
            let latest = |records: &[ProviderRecord]| records.iter().filter_map(|it| it.expires).max();
            let stalest = self.keys.iter().filter(foreign).min_by_key(|(_, records)| latest(records));
            if let Some(key) = stalest.map(|(key, _)| key.clone()) {
                self.keys.remove(&key);
            }
        }
        self.keys.len() < MAX_KEYS
    }
}

impl RecordStore for Providers {
    type RecordsIter<'a> = Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    /// Values are not for this table.
    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::ValueTooLarge)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, mut record: ProviderRecord) -> Result<()> {
        if record.key.as_ref().len() > MAX_KEY {
            return Err(Error::ValueTooLarge);
        }
        record.addresses.truncate(MAX_ADDRESSES);
        if !self.keys.contains_key(&record.key) && !self.make_room(record.provider == self.me) {
            return Err(Error::MaxProvidedKeys);
        }
        let records = self.keys.entry(record.key.clone()).or_default();
        if let Some(known) = records.iter_mut().find(|known| known.provider == record.provider) {
            *known = record;
            return Ok(());
        }
        if records.len() >= MAX_PROVIDERS {
            let now = Instant::now();
            records.retain(|known| !known.is_expired(now));
        }
        // A full list stays as it is, so that a flood of false providers does not wash out the true.
        if records.len() < MAX_PROVIDERS {
            records.push(record);
        }
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.keys.get(key).cloned().unwrap_or_default()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let own = self.keys.values().flatten().filter(|record| record.provider == self.me);
        own.map(Cow::Borrowed).collect::<Vec<_>>().into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if let Some(records) = self.keys.get_mut(key) {
            records.retain(|record| record.provider != *provider);
            if records.is_empty() {
                self.keys.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn record(key: u32, provider: PeerId, expires_in_s: u64) -> ProviderRecord {
        let expires = Some(Instant::now() + Duration::from_secs(expires_in_s));
        let key = RecordKey::new(&key.to_be_bytes());
        ProviderRecord { key, provider, expires, addresses: Vec::new() }
    }

    #[test]
    fn a_provider_is_kept_once_with_what_it_said_last() {
        let (me, other) = (PeerId::random(), PeerId::random());
        let mut store = Providers::new(me);
        store.add_provider(record(1, other, 10)).expect("room");
        let mut moved = record(1, other, 20);
        moved.addresses = vec!["/ip4/10.0.0.7/tcp/2".parse().expect("an address"); 40];
        store.add_provider(moved).expect("room");
        let kept = store.providers(&RecordKey::new(&1_u32.to_be_bytes()));
        assert_eq!((kept.len(), kept[0].addresses.len()), (1, MAX_ADDRESSES));
        assert_eq!(store.provided().count(), 0);
        store.add_provider(ProviderRecord { expires: None, ..record(1, me, 0) }).expect("room");
        assert_eq!(store.provided().count(), 1);
        store.remove_provider(&RecordKey::new(&1_u32.to_be_bytes()), &me);
        assert_eq!((store.provided().count(), store.len()), (0, 1));
    }

    #[test]
    fn a_full_store_takes_new_keys_once_old_ones_have_expired_and_always_our_own() {
        let (me, other) = (PeerId::random(), PeerId::random());
        let mut store = Providers::new(me);
        for key in 0..MAX_KEYS as u32 {
            store.add_provider(record(key, other, 100 + u64::from(key))).expect("room");
        }
        let new = MAX_KEYS as u32;
        assert!(matches!(store.add_provider(record(new, other, 10)), Err(Error::MaxProvidedKeys)));
        store.add_provider(ProviderRecord { expires: None, ..record(new, me, 0) }).expect("our own");
        assert_eq!(store.keys.len(), MAX_KEYS);
        assert!(store.providers(&RecordKey::new(&0_u32.to_be_bytes())).is_empty(), "the stalest went");
        store.add_provider(record(1, other, 0)).expect("known");
        store.add_provider(record(new + 1, other, 10)).expect("one has expired");
        assert_eq!(store.keys.len(), MAX_KEYS);
    }

    #[test]
    fn a_full_list_of_providers_stays_as_it_is() {
        let mut store = Providers::new(PeerId::random());
        let first = PeerId::random();
        store.add_provider(record(1, first, 50)).expect("room");
        for _ in 0..100 {
            store.add_provider(record(1, PeerId::random(), 60)).expect("ignored when full");
        }
        let kept = store.providers(&RecordKey::new(&1_u32.to_be_bytes()));
        assert_eq!((kept.len(), kept[0].provider), (MAX_PROVIDERS, first));
        assert!(store.put(Record::new(b"x".to_vec(), Vec::new())).is_err(), "no values");
    }
}
