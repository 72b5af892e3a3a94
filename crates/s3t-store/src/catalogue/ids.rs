//! Ids as the catalogue knows them: keyed digests, so that nothing in it names a person.

use s3t_core::digest::DigestBuilder;
use s3t_core::{RecordId, StoreSecret, SubjectId};

/// An id in the catalogue: the first half of a keyed digest.
pub(crate) type ShortId = [u8; 16];

pub(crate) fn record_id(secret: &StoreSecret, record: &RecordId) -> ShortId {
    short(DigestBuilder::keyed(secret, "catalogue record").bytes(record.as_str().as_bytes()))
}

pub(crate) fn subject_id(secret: &StoreSecret, subject: &SubjectId) -> ShortId {
    short(DigestBuilder::keyed(secret, "catalogue subject").bytes(subject.as_str().as_bytes()))
}

pub(crate) fn request_id(secret: &StoreSecret, request: &str) -> ShortId {
    short(DigestBuilder::keyed(secret, "catalogue request").bytes(request.as_bytes()))
}

fn short(builder: &DigestBuilder) -> ShortId {
    let digest = builder.finish();
    std::array::from_fn(|byte| digest.as_bytes()[byte])
}
