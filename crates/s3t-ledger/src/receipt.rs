//! Receipts: what a deletion did, provable to somebody who has the public key only.

use s3t_core::digest::{DigestBuilder, StoreSecret};
use s3t_core::spelling::likely_spellings;
use s3t_core::{Digest, RecordId, ShardId, SliceAddress, StageKey, SubjectId};
use serde::{Deserialize, Serialize};

use crate::{Entry, Epoch, Event, Hash, LedgerError, Opening, VerifyingKey, check_inclusion, leaf_hash};

/// The version of the receipt's format.
const FORMAT: u32 = 1;

/// A record or subject that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A record.
    Record(&'a RecordId),
    /// A subject.
    Subject(&'a SubjectId),
}

impl<'a> Named<'a> {
    /// `record` or `subject`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Record(_) => "record",
            Self::Subject(_) => "subject",
        }
    }

    /// The id.
    pub fn as_str(&self) -> &'a str {
        match self {
            Self::Record(record) => record.as_str(),
            Self::Subject(subject) => subject.as_str(),
        }
    }

    /// The commitment to this name under a request's opening: without the opening it identifies nobody.
    pub fn commit(&self, opening: &Opening) -> Digest {
        commit(opening, self.context(), self.as_str())
    }

    /// The first of the other spellings that this name is likely to have whose commitment was given out.
    pub fn spelling_among(&self, is_named: impl Fn(&Digest) -> bool, opening: &Opening) -> Option<String> {
        let named = |id: &String| is_named(&commit(opening, self.context(), id));
        likely_spellings(self.as_str()).into_iter().find(named)
    }

    fn context(&self) -> &'static str {
        match self {
            Self::Record(_) => "named record",
            Self::Subject(_) => "named subject",
        }
    }
}

/// The commitment to a request's id under its opening.
pub fn commit_request(opening: &Opening, request: &str) -> Digest {
    commit(opening, "request", request)
}

fn commit(opening: &Opening, context: &str, name: &str) -> Digest {
    DigestBuilder::keyed(&StoreSecret::from_bytes(*opening.as_bytes()), context).bytes(name.as_bytes()).finish()
}

/// A chain of stages that a shard serves with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardServes {
    /// The shard.
    pub shard: ShardId,
    /// The last stage of the chain that answers; `None` if the shard has no live sequence.
    pub stage: Option<StageKey>,
    /// The number of stages that the chain has.
    pub depth: usize,
}

/// The effect of a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The deletion's epoch: predictions see all of it or none.
    pub epoch: Epoch,
    /// The number of records that it takes.
    pub records: u64,
    /// The slices that they were in.
    pub slices: Vec<SliceAddress>,
    /// The stages that saw one of them: switched off, then erased.
    pub cut: Vec<StageKey>,
    /// The deepest chain of live stages of each shard that was hit. Other live chains may answer beside it (`serving.members`).
    pub serves: Vec<ShardServes>,
}

impl Effect {
    /// The digest that the log's entry holds.
    pub fn digest(&self) -> Digest {
        DigestBuilder::new("effect").json(self).finish()
    }
}

/// An entry of the log with its audit path to the receipt's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// Its index, from 0.
    pub index: u64,
    /// Its bytes, as text.
    pub entry: String,
    /// The audit path (RFC 6962, section 2.1.1).
    pub path: Vec<Hash>,
}

/// A receipt for a deletion request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The format's version.
    pub format: u32,
    /// The request's id.
    pub request: String,
    /// The key of the commitments: with it, whoever knows a name can see that it is in the request. Kept by the store until the
    /// records are erased; from then on only receipts have it.
    pub opening: Option<Opening>,
    /// A commitment for each record and subject that the request names.
    pub named: Vec<Digest>,
    /// The effect of the deletion.
    pub effect: Effect,
    /// The entry that says that it was accepted.
    pub accepted: Proven,
    /// The entry that says that it took effect, once it is there.
    pub effective: Option<Proven>,
    /// The entry that says that everything was erased, once it is there.
    pub erased: Option<Proven>,
    /// The signed tree head that the paths lead to.
    pub checkpoint: String,
}

/// The facts that a receipt proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedReceipt {
    /// The log that signed it.
    pub log: String,
    /// The entries of the log at that time.
    pub entries: u64,
    /// Milliseconds since 1970 when the request was accepted.
    pub accepted: u64,
    /// When no answer used the stages any more.
    pub effective: Option<u64>,
    /// When everything was erased.
    pub erased: Option<u64>,
    /// `true` if the request's id was checked against the log, for which the opening is needed.
    pub request_checked: bool,
}

impl Receipt {
    /// Puts a receipt together.
    pub fn new(
        request: String,
        opening: Option<Opening>,
        named: Vec<Digest>,
        effect: Effect,
        [accepted, effective, erased]: [Option<Proven>; 3],
        checkpoint: String,
    ) -> Option<Self> {
        let accepted = accepted?;
        Some(Self { format: FORMAT, request, opening, named, effect, accepted, effective, erased, checkpoint })
    }

    /// The digest of the commitments that the log's entry holds.
    pub fn named_digest(named: &[Digest]) -> Digest {
        let mut builder = DigestBuilder::new("named");
        named.iter().fold(&mut builder, DigestBuilder::digest).finish()
    }

    /// Reads a receipt.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Receipt`] for a text that is no receipt, or has a later format.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        /// The field that says how to read the others; these are passed over.
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            format: Option<u64>,
        }
        let refuse = |problem: String| LedgerError::Receipt(problem);
        let head = match serde_json::from_str::<Head>(text) {
            Ok(head) => head.format,
            Err(error) if error.is_data() => None,
            Err(error) => return Err(refuse(format!("not JSON: {error}"))),
        };
        match head {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(refuse(format!("has format {format}, but this program reads format {FORMAT}"))),
            None => return Err(refuse("has no `format`, so it is no receipt".into())),
        }
        serde_json::from_str(text).map_err(|error| refuse(error.to_string()))
    }

    /// Checks everything in the receipt against the public key: the checkpoint's signature, the audit paths, and that the
    /// entries say what the receipt says.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] naming what does not hold.
    pub fn verify(&self, key: &VerifyingKey) -> Result<VerifiedReceipt, LedgerError> {
        let refuse = |problem: &str| Err(LedgerError::Receipt(problem.into()));
        let head = key.check(&self.checkpoint)?;
        let proven = |part: &Proven| -> Result<Entry, LedgerError> {
            let leaf = leaf_hash(part.entry.as_bytes());
            check_inclusion(&part.path, head.size, &head.root, part.index, &leaf)?;
            Entry::from_bytes(part.index, part.entry.as_bytes())
        };
        let accepted = proven(&self.accepted)?;
        let Event::Accepted { epoch, request, named, records, effect } = accepted.event else {
            return refuse("its first entry does not say that a request was accepted");
        };
        if (epoch, records) != (self.effect.epoch, self.effect.records) || effect != self.effect.digest() {
            return refuse("what it says was done is not what the ledger says");
        }
        if named != Self::named_digest(&self.named) {
            return refuse("what it says was named is not what the ledger says");
        }
        if self.opening.is_some_and(|opening| commit_request(&opening, &self.request) != request) {
            return refuse("its request id is not the one in the ledger");
        }
        let mut verified = VerifiedReceipt {
            log: key.origin().to_owned(),
            entries: head.size,
            accepted: accepted.at.0,
            effective: None,
            erased: None,
            request_checked: self.opening.is_some(),
        };
        if let Some(part) = &self.effective {
            match proven(part)?.event {
                Event::Effective { epoch: of, since } if of == epoch => verified.effective = Some(since.0),
                _ => return refuse("its entry of the effect is another's"),
            }
        }
        if let Some(part) = &self.erased {
            match proven(part)? {
                Entry { at, event: Event::Erased { epoch: of } } if of == epoch => verified.erased = Some(at.0),
                _ => return refuse("its entry of the erasure is another's"),
            }
        }
        Ok(verified)
    }

    /// `true` if the request names this record or subject.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Receipt`] if the receipt has no opening, so that nobody can say.
    pub fn names(&self, name: Named<'_>) -> Result<bool, LedgerError> {
        let missing = || {
            LedgerError::Receipt(
                "it was made after the erasure and has no opening; use the one given out with the deletion".into(),
            )
        };
        Ok(self.named.contains(&name.commit(&self.opening.ok_or_else(missing)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::Memory;
    use crate::{SigningKey, Timestamp, inclusion_proof, root};

    fn digest(text: &str) -> Digest {
        DigestBuilder::new("test").bytes(text.as_bytes()).finish()
    }

    fn receipt() -> (Receipt, SigningKey, RecordId) {
        let (key, opening) =
            (SigningKey::new("s3t/test", &[3; 32]).unwrap(), Opening::from_bytes(*digest("opening").as_bytes()));
        let record = RecordId::new("record-7").unwrap();
        let named = vec![Named::Record(&record).commit(&opening)];
        let effect = Effect {
            epoch: Epoch(4),
            records: 1,
            slices: vec![SliceAddress::new(1, 2)],
            cut: vec![StageKey(digest("stage"))],
            serves: vec![ShardServes { shard: ShardId(1), stage: None, depth: 0 }],
        };
        let events = [
            Event::Created { store: digest("s"), settings: digest("t"), records: 9 },
            Event::Accepted {
                epoch: Epoch(4),
                request: commit_request(&opening, "ticket-1"),
                named: Receipt::named_digest(&named),
                records: 1,
                effect: effect.digest(),
            },
            Event::Effective { epoch: Epoch(4), since: Timestamp(11) },
            Event::Erased { epoch: Epoch(4) },
            Event::Erased { epoch: Epoch(3) },
        ];
        let mut log = Memory::default();
        let entries: Vec<String> = (10..)
            .zip(events)
            .map(|(at, event)| String::from_utf8(Entry { at: Timestamp(at), event }.to_bytes().unwrap()).unwrap())
            .collect();
        entries.iter().for_each(|entry| log.push(entry.as_bytes()));
        let proven = |index: u64| {
            let path = inclusion_proof(5, index, &log).unwrap();
            Some(Proven { index, entry: entries[index as usize].clone(), path })
        };
        let checkpoint = key.sign(5, &root(5, &log).unwrap()).unwrap();
        let parts = [proven(1), proven(2), proven(3)];
        let receipt = Receipt::new("ticket-1".into(), Some(opening), named, effect, parts, checkpoint).unwrap();
        (receipt, key, record)
    }

    #[test]
    fn a_receipt_verifies_with_the_public_key_alone() {
        let (receipt, key, record) = receipt();
        let read = Receipt::parse(&serde_json::to_string_pretty(&receipt).unwrap()).unwrap();
        assert_eq!(read, receipt);
        let verified = read.verify(&key.verifying_key()).unwrap();
        assert_eq!((verified.accepted, verified.effective, verified.erased), (11, Some(11), Some(13)));
        assert!(verified.request_checked && read.names(Named::Record(&record)).unwrap());
        let other = RecordId::new("record-8").unwrap();
        let same_name = SubjectId::new("record-7").unwrap();
        assert!(!read.names(Named::Record(&other)).unwrap() && !read.names(Named::Subject(&same_name)).unwrap());
        let without = Receipt { opening: None, ..receipt };
        assert!(!without.verify(&key.verifying_key()).unwrap().request_checked);
        assert!(without.names(Named::Record(&record)).is_err());
    }

    #[test]
    fn every_forgery_is_noticed() {
        let (receipt, key, _) = receipt();
        let key = key.verifying_key();
        let erased_of_another = {
            let mut part = receipt.erased.clone().unwrap();
            part.entry = part.entry.replace("\"epoch\":4", "\"epoch\":5");
            part
        };
        let forged = |change: &dyn Fn(&mut Receipt)| {
            let mut forged = receipt.clone();
            change(&mut forged);
            forged.verify(&key).unwrap_err().to_string()
        };
        for (message, expected) in [
            (forged(&|forged| forged.effect.cut.clear()), "what it says was done"),
            (forged(&|forged| forged.effect.serves[0].depth = 3), "what it says was done"),
            (forged(&|forged| forged.effect.records = 2), "what it says was done"),
            (forged(&|forged| forged.named.push(digest("more"))), "was named"),
            (forged(&|forged| forged.request = "ticket-2".into()), "request id"),
            (forged(&|forged| forged.opening = Some(Opening::from_bytes(*digest("other").as_bytes()))), "request id"),
            (forged(&|forged| forged.accepted = forged.erased.clone().unwrap()), "was accepted"),
            (forged(&|forged| forged.accepted.index = 0), "proof"),
            (forged(&|forged| forged.accepted.path.pop().map_or((), drop)), "proof"),
            (forged(&|forged| forged.accepted.entry.push(' ')), "proof"),
            (forged(&|forged| forged.erased = Some(erased_of_another.clone())), "proof"),
            (forged(&|forged| forged.erased = forged.effective.clone()), "erasure"),
            (forged(&|forged| forged.effective = forged.erased.clone()), "effect"),
            (forged(&|forged| forged.checkpoint = forged.checkpoint.replace("\n5\n", "\n6\n")), "checkpoint"),
        ] {
            assert!(message.contains(expected), "`{expected}` is not in: {message}");
        }
        let stranger = SigningKey::new("s3t/test", &[4; 32]).unwrap().verifying_key();
        assert!(receipt.verify(&stranger).is_err());
        for (text, expected) in [("", "not JSON"), ("{}", "no `format`"), ("{\"format\": 9}", "format 9")] {
            assert!(Receipt::parse(text).unwrap_err().to_string().contains(expected));
        }
    }
}
