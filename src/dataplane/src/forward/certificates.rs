//! The certificates of the listener and of all backends: read with a policy, read again when files change.

use std::collections::HashMap;
use std::sync::Arc;

use super::snapshot::Snapshot;
use super::transport::tls::{Certificate, ClientTls, FileFault};
use super::worker::Shared;
use crate::error::{Fault, Step};
use crate::policy::{BackendTls, Policy};

/// Where a file is named in the settings: `listen.tls`, or `backends.<name>.tls`.
pub type Place = Vec<String>;

/// What came of reading all files again.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// Whose files have changed, and are in use for connections from now on.
    pub taken: Vec<Place>,
    /// Whose files cannot be used; what was read before stays in use.
    pub faults: Vec<(Place, FileFault)>,
}

/// Each backend's TLS by position; that of `before` where it names the same files, as it was read when they were good.
///
/// # Errors
/// Everything that is wrong with the files, by their place in the policy document.
pub fn of_backends(policy: &Policy, before: Option<&Snapshot>) -> Result<Vec<Option<Arc<ClientTls>>>, Vec<Fault>> {
    let mut known: HashMap<BackendTls, Arc<ClientTls>> = HashMap::new();
    for tls in before.iter().flat_map(|before| before.tls.iter().flatten()) {
        known.insert(tls.files().clone(), Arc::clone(tls));
    }
    let mut faults = Vec::new();
    let mut all = Vec::new();
    for (index, backend) in policy.backends().iter().enumerate() {
        let Some(files) = backend.as_model().and_then(|model| model.tls.as_ref()) else {
            all.push(None);
            continue;
        };
        if let Some(tls) = known.get(files) {
            all.push(Some(Arc::clone(tls)));
            continue;
        }
        match ClientTls::new(files.clone()) {
            Ok(tls) => {
                let tls = Arc::new(tls);
                known.insert(files.clone(), Arc::clone(&tls));
                all.push(Some(tls));
            }
            Err(found) => faults.extend(found.iter().map(|fault| in_document(index, fault))),
        }
    }
    if faults.is_empty() { Ok(all) } else { Err(faults) }
}

fn in_document(index: usize, fault: &FileFault) -> Fault {
    let key = |name: &str| Step::Key(name.to_owned());
    let path = vec![key("backends"), Step::Index(index), key("tls"), key(fault.setting)];
    let mend = if fault.mend.is_empty() { String::new() } else { format!(" ({})", fault.mend) };
    Fault { path, message: format!("{}: {}{mend}", fault.file, fault.found), line: None, column: None }
}

fn listener() -> Place {
    vec!["listen".to_owned(), "tls".to_owned()]
}

fn backend(snapshot: &Snapshot, index: usize) -> Place {
    let name = snapshot.policy.backends().get(index).map_or("", |backend| &*backend.name);
    vec!["backends".to_owned(), name.to_owned(), "tls".to_owned()]
}

/// Reads every file again.
#[must_use]
pub fn reload(shared: &Shared) -> Reloaded {
    let mut reloaded = Reloaded::default();
    let mut note = |place: Place, result: Result<bool, Vec<FileFault>>| match result {
        Ok(true) => reloaded.taken.push(place),
        Ok(false) => {}
        Err(found) => reloaded.faults.extend(found.into_iter().map(|fault| (place.clone(), fault))),
    };
    if let Some(tls) = &shared.tls {
        note(listener(), tls.reload());
    }
    let snapshot = shared.snapshot.load();
    for (index, tls) in each(&snapshot) {
        note(backend(&snapshot, index), tls.reload());
    }
    reloaded
}

/// Every certificate in use, and where it is named.
#[must_use]
pub fn in_use(shared: &Shared) -> Vec<(Place, Certificate)> {
    let mut all = Vec::new();
    if let Some(tls) = &shared.tls {
        all.extend(tls.certificates().into_iter().map(|one| (listener(), one)));
    }
    let snapshot = shared.snapshot.load();
    for (index, tls) in each(&snapshot) {
        all.extend(tls.certificates().into_iter().map(|one| (backend(&snapshot, index), one)));
    }
    all
}

/// What backends share is named once, by the first of them.
fn each(snapshot: &Snapshot) -> impl Iterator<Item = (usize, &Arc<ClientTls>)> {
    let all = || snapshot.tls.iter().enumerate().filter_map(|(index, tls)| Some((index, tls.as_ref()?)));
    all().filter(move |(index, tls)| !all().any(|(before, other)| before < *index && Arc::ptr_eq(other, tls)))
}
