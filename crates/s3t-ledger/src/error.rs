/// Everything that can be wrong with a log or a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// An invalid key.
    #[error("not a key: {0}; a verifier key is one line, NAME+HASH+BASE64, as in the store's `ledger/key.pub`")]
    Key(String),
    /// A checkpoint that cannot be read or was not signed by the key.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// An entry that cannot be read.
    #[error("ledger entry {index}: {problem}")]
    Entry {
        /// Its index, from 0.
        index: u64,
        /// The problem.
        problem: String,
    },
    /// A proof that does not hold, or hashes that are not there.
    #[error("ledger proof: {0}")]
    Proof(String),
    /// A receipt that does not hold.
    #[error("receipt: {0}")]
    Receipt(String),
    /// An event too large for the tile format.
    #[error("a ledger entry of {0} bytes; entries have at most 65535")]
    TooLarge(usize),
}
