//! `s3t receipt`.

use s3t::api::{
    Receipt, ShardServes, ShowReceiptRequest, VerifiedReceipt, VerifyReceiptRequest, show_receipt, verify_receipt,
};
use s3t::core::wording::counted;

use crate::arguments::ReceiptCommand;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, say, short, table, time};

pub(crate) fn receipt(command: ReceiptCommand, output: &mut Output) -> Outcome {
    match command {
        ReceiptCommand::Show { receipt } => {
            let answer = show_receipt(&ShowReceiptRequest { receipt })?;
            output.answer(&answer, || show(&answer.receipt));
            Ok(code_of(&answer))
        }
        ReceiptCommand::Verify { receipt, key, record, subject } => {
            let request = VerifyReceiptRequest { receipt, key, records: record, subjects: subject };
            let answer = verify_receipt(&request)?;
            let named = request.records.len() + request.subjects.len();
            output.answer(&answer, || show_verified(&answer.verified, named));
            Ok(code_of(&answer))
        }
    }
}

fn show(receipt: &Receipt) {
    let effect = &receipt.effect;
    let slices: Vec<String> = effect.slices.iter().map(ToString::to_string).collect();
    say!(
        "request {}, deletion {}: {} in {}",
        receipt.request,
        effect.epoch,
        counted(effect.records as usize, "record"),
        slices.join(", ")
    );
    for key in &effect.cut {
        say!("cut: stage {key}");
    }
    let row = |shard: &ShardServes| {
        let stage = shard.stage.as_ref().map_or_else(|| "nothing".to_owned(), |key| format!("stage {}", short(key)));
        vec![format!("shard {}", shard.shard), stage, shard.depth.to_string()]
    };
    table(&["", "deepest live stage then", "depth"], effect.serves.iter().map(row).collect(), 2);
    let opening = if receipt.opening.is_some() { "with" } else { "without" };
    say!("{} to names, {opening} the key that opens them", counted(receipt.named.len(), "commitment"));
}

fn show_verified(verified: &VerifiedReceipt, named: usize) {
    say!("verified: signed by {}, {} of the ledger", verified.log, counted(verified.entries as usize, "entry"));
    let at = |moment: Option<u64>| moment.map_or_else(|| "not yet, when it was made".to_owned(), time);
    table(
        &["request", "when"],
        vec![
            vec!["accepted".into(), time(verified.accepted)],
            vec!["in no answer".into(), at(verified.effective)],
            vec!["erased".into(), at(verified.erased)],
        ],
        2,
    );
    if !verified.request_checked {
        say!("its id was not checked: the receipt was made after the erasure, which destroys the key for it");
    }
    if named > 0 {
        say!("it names {}", counted(named, "given name"));
    }
}
