//! Records and subjects that must not be there, looked for in every spelling.

use std::collections::{HashMap, HashSet};

use s3t_core::spelling::{DIFFERENCES, Visible, comparison_form, side_by_side};
use s3t_core::wording::counted;
use s3t_core::{Digest, Record};
use s3t_ledger::{Named, Opening, Receipt};

use super::AuditRequest;
use s3t_store::StoreError;

use crate::{EngineError, System};

impl System {
    /// Looks for what must be gone: how many names and commitments, and what was found, or could not be looked through.
    pub(super) fn look_for(&self, request: &AuditRequest) -> Result<(usize, Vec<String>), EngineError> {
        // Sets: a receipt may name a hundred thousand.
        let set = |receipt: &Receipt| receipt.named.iter().copied().collect::<HashSet<Digest>>();
        let opened: Vec<(Opening, HashSet<Digest>)> =
            request.receipts.iter().filter_map(|receipt| Some((receipt.opening?, set(receipt)))).collect();
        let names = request.absent_records.len() + request.absent_subjects.len();
        let mut problems = Vec::new();
        for record in &request.absent_records {
            if self.store().address(record)?.is_some() {
                problems.push(format!("record `{}` is in the catalogue", Visible(record.as_str())));
            }
        }
        for subject in &request.absent_subjects {
            if self.store().records_of(subject)? > 0 {
                problems.push(format!("subject `{}` has records in the catalogue", Visible(subject.as_str())));
            }
        }
        let mut closed = [0; 2];
        if names + opened.len() > 0 {
            let absent = Absent::new(request, &opened);
            for address in self.store().settings().shape.addresses() {
                let records = match self.store().records(address) {
                    Ok(records) => records,
                    // It still holds what the deletion takes.
                    Err(StoreError::BeingErased(_)) => {
                        closed[0] += 1;
                        continue;
                    }
                    // Another check tells why.
                    Err(_) => {
                        closed[1] += 1;
                        continue;
                    }
                };
                for (_, record) in records {
                    let id = Visible(record.id.as_str());
                    problems.extend(absent.problem(&record).map(|why| format!("record `{id}` is in {address}{why}")));
                }
            }
        }
        for (slices, why) in closed.into_iter().zip([
            "a deletion that hit them is not finished; any command that changes the store goes on with it, then audit again",
            "another check tells why",
        ]) {
            if slices > 0 {
                problems.push(format!("{} could not be looked through: {why}", counted(slices, "slice")));
            }
        }
        Ok((names + opened.len(), problems))
    }
}

/// The names that must not be there, to compare records with.
struct Absent<'a> {
    /// The ids that must be gone, by kind and comparison form.
    forms: HashMap<(&'static str, String), Vec<&'a str>>,
    /// The openings of receipts, with the commitments under each.
    opened: &'a [(Opening, HashSet<Digest>)],
}

impl<'a> Absent<'a> {
    fn new(request: &'a AuditRequest, opened: &'a [(Opening, HashSet<Digest>)]) -> Self {
        let mut forms: HashMap<_, Vec<&str>> = HashMap::new();
        let records = request.absent_records.iter().map(Named::Record);
        for name in records.chain(request.absent_subjects.iter().map(Named::Subject)) {
            forms.entry((name.kind(), comparison_form(name.as_str()).into_owned())).or_default().push(name.as_str());
        }
        Self { forms, opened }
    }

    /// The problem with a record that is there, beyond its being there; `None` if there is no problem.
    fn problem(&self, record: &Record) -> Option<String> {
        let names = [Some(Named::Record(&record.id)), record.subject.as_ref().map(Named::Subject)];
        let (mut is_named, mut spelling) = (false, None);
        for name in names.into_iter().flatten() {
            for absent in
                self.forms.get(&(name.kind(), comparison_form(name.as_str()).into_owned())).into_iter().flatten()
            {
                is_named |= *absent == name.as_str();
                spelling = spelling
                    .or_else(|| Some((name, (*absent).to_owned())).filter(|(_, absent)| absent != name.as_str()));
            }
            for (opening, named) in self.opened {
                is_named |= named.contains(&name.commit(opening));
                let is_given = |commitment: &Digest| named.contains(commitment);
                spelling = spelling.or_else(|| Some((name, name.spelling_among(is_given, opening)?)));
            }
        }
        if is_named {
            return Some(String::new());
        }
        spelling.map(|(name, absent)| {
            let (there, absent) = side_by_side(name.as_str(), &absent);
            format!(
                ": its {} `{there}` differs from `{absent}`, which must be gone, only in {DIFFERENCES}",
                name.kind()
            )
        })
    }
}
