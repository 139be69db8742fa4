//! A batch whose rows go different ways (`on_miss: rows`): what was answered well waits while the others go on.
//!
//! From the first answer that was good for some rows only, the call is one of the rows that are left: those are asked for,
//! judged and, at the end, put back among the others. Where nobody answers them in the end, nobody answers the call.

use smallvec::SmallVec;

use super::call::{Call, End, Why};
use super::compiled::{BackendIx, NO_INDEX};
use super::decision::Row;
use super::words::Reason;

/// The rows of a batch that is taken apart.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Which rows of the request are left, in order: those the attempt under way is asked for.
    left: Vec<u32>,
    /// The others, as they were answered.
    kept: Vec<(u32, Row)>,
    /// For each row of the answer judged last, which row of the request it answers; none for one that goes on.
    taken: Vec<Option<u32>>,
}

impl Batch {
    /// The row of the request at a position among those that are left.
    pub fn row(&self, position: u32) -> u32 {
        self.left.get(position as usize).copied().unwrap_or(position)
    }
}

impl Call {
    /// Whether rows may go different ways, if whoever asks can take the request apart: then `split` allows it.
    pub fn splits(&self) -> bool {
        self.route().splits && self.asked_rows > 1 && self.pair.is_none()
    }

    /// The request can be taken apart by its rows.
    pub fn split(&mut self) {
        if self.batch.is_none() && self.splits() {
            let left = (0..self.asked_rows).collect();
            self.batch = Some(Box::new(Batch { left, ..Batch::default() }));
        }
    }

    /// Of the answer that was judged last, for each row, which row of the request it answers; none for one that goes on.
    /// Empty where all of them do.
    pub fn taken(&self) -> &[Option<u32>] {
        self.batch.as_ref().map_or(&[], |batch| &batch.taken)
    }

    /// The rows of the request that are left, in the order in which they are asked for; empty for a call that is whole.
    pub fn left(&self) -> &[u32] {
        self.batch.as_ref().filter(|batch| !batch.kept.is_empty()).map_or(&[], |batch| &batch.left)
    }

    /// The answer judged last misses: keeps the rows that it answered well. `own` says which did not.
    pub(super) fn keep_good_rows(&mut self, own: &[Option<Why>]) {
        let Some(mut batch) = self.batch.take() else { return };
        batch.taken.clear();
        let (Some(backend), true) = (self.current, own.len() == batch.left.len() && own.len() == self.readings.len())
        else {
            self.batch = Some(batch);
            return;
        };
        if own.iter().all(Option::is_some) {
            self.batch = Some(batch);
            return;
        }
        let end = End::Answered(backend);
        let outcome = self.ending(&end).0;
        // The call's own reason is why this attempt was made, not that it missed for other rows.
        let call = self.first.unwrap_or_else(|| self.why(&end));
        let readings = std::mem::take(&mut self.readings);
        let (mut left, mut owns, mut marked) = (Vec::new(), SmallVec::new(), SmallVec::new());
        for (position, (reading, missed)) in (0_u32..).zip(readings.into_iter().zip(own)) {
            let at = batch.row(position);
            if missed.is_none() {
                batch.kept.push((at, self.answered_row((at, position), &reading, (outcome, Some(backend)), call)));
                batch.taken.push(Some(at));
                continue;
            }
            left.push(at);
            owns.push(self.own.get(position as usize).copied().flatten().or(self.first).or(*missed));
            marked.push(self.marked.get(position as usize).copied().unwrap_or(false));
            batch.taken.push(None);
        }
        self.asked_rows = u32::try_from(left.len()).unwrap_or(u32::MAX);
        batch.left = left;
        (self.own, self.marked) = (owns, marked);
        let (kept, left) = (batch.kept.len(), batch.left.len());
        self.batch = Some(batch);
        self.note("batch", || format!("rows answered well enough that wait: {kept}; rows that go on: {left}"));
    }

    /// The batch is one again: whoever answers next answers all of it.
    pub fn whole_again(&mut self) {
        let Some(batch) = self.batch.take().filter(|batch| !batch.kept.is_empty()) else { return };
        let total = batch.left.len() + batch.kept.len();
        let mut own = SmallVec::from_elem(None, total);
        for (position, at) in batch.left.iter().enumerate() {
            own[*at as usize] = self.own.get(position).copied().flatten();
        }
        for (at, row) in &batch.kept {
            own[*at as usize] = (row.reason != Reason::Ok).then_some((row.reason, row.rule));
        }
        self.own = own;
        self.marked.clear();
        self.asked_rows = u32::try_from(total).unwrap_or(u32::MAX);
    }

    /// The static answer that the call ended with.
    pub fn current_static(&self) -> Option<BackendIx> {
        match self.end {
            Some(End::Static(backend)) => Some(backend),
            _ => None,
        }
    }

    /// The row of the request at a position among those that were asked for.
    pub(super) fn request_row(&self, position: u32) -> u32 {
        self.batch.as_ref().map_or(position, |batch| batch.row(position))
    }

    /// Puts the rows that were kept back among those that were answered last.
    pub(super) fn with_kept_rows(&mut self, end: &End, rows: SmallVec<[Row; 1]>) -> SmallVec<[Row; 1]> {
        let Some(batch) = self.batch.take().filter(|batch| !batch.kept.is_empty()) else { return rows };
        if !matches!(end, End::Answered(_) | End::Static(_) | End::People(_)) {
            return rows;
        }
        let mut all: Vec<(u32, Row)> = batch.left.into_iter().zip(rows).chain(batch.kept).collect();
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, row)| row).collect()
    }

    /// What the call misses by where rows are judged each by itself: an invalid one goes before all else.
    pub(super) fn invalid_row(&self, own: &[Option<Why>]) -> Option<Why> {
        self.batch.as_ref()?;
        own.iter().flatten().find(|(reason, _)| *reason == Reason::InvalidOutput).map(|(reason, _)| (*reason, NO_INDEX))
    }
}
