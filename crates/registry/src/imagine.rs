//! Changes that somebody imagines: read and checked as real ones are, but nothing is written.

use std::sync::Arc;

use serde_json::value::to_raw_value;
use serde_json::{Map, Value};

use crate::admin::{Admin, AdminState};
use crate::command::Violation;
use crate::members::merge_value;
use crate::parse::{self, Origin};
use crate::plan::Planned;
use crate::routes::{Fault, Group, Route, escape};
use crate::state::{Now, Registry};
use crate::view::{Reason, View};

/// A record as it is; none where there is none.
type Old<T> = Option<Arc<T>>;

/// What would be. None stands for a record that would be gone.
#[derive(Clone, Debug, Default)]
pub struct Imagined {
    /// Trunks that would change.
    pub trunks: Vec<(Arc<str>, Option<View>)>,
    /// Routes that would change: as they are, and as they would be.
    pub routes: Vec<(Old<Route>, Option<Arc<Route>>)>,
    /// Records of groups that would change.
    pub groups: Vec<(Arc<str>, Option<Arc<Group>>)>,
}

impl Registry {
    /// Reads imagined changes: `{"trunks": {id: …}, "routes": {id: …}, "groups": {id: …}}`, each a merge patch (RFC 7396) of the
    /// record as it is, or of none; null takes it away. Of a trunk, `status` (`up`, `down`) and `admin` (its `state`, or null) may
    /// be imagined too.
    ///
    /// # Errors
    /// Every fault, with its place in the document.
    pub fn imagine(&self, document: &Map<String, Value>, now: Now) -> Result<Imagined, Vec<Fault>> {
        let (mut imagined, mut faults) = (Imagined::default(), Vec::new());
        for kind in ["trunks", "routes", "groups"] {
            let records = match document.get(kind) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(records)) => records,
                Some(_) => {
                    let message = format!("{kind} must be an object of ids and changes");
                    faults.push(Fault { pointer: format!("/{kind}"), message });
                    continue;
                }
            };
            for (id, change) in records {
                let pointer = format!("/{kind}/{}", escape(id));
                let found = match kind {
                    "trunks" => self.imagine_trunk(id, change, &pointer, now).map(|one| imagined.trunks.push(one)),
                    "routes" => imagine_record::<Route>(self, id, change, &pointer)
                        .map(|(_, old, new)| imagined.routes.push((old, new))),
                    _ => imagine_record::<Group>(self, id, change, &pointer)
                        .map(|(id, _, new)| imagined.groups.push((id, new))),
                };
                if let Err(more) = found {
                    faults.extend(more);
                }
            }
        }
        if faults.is_empty() { Ok(imagined) } else { Err(faults) }
    }

    fn imagine_trunk(
        &self,
        id: &str,
        change: &Value,
        pointer: &str,
        now: Now,
    ) -> Result<(Arc<str>, Option<View>), Vec<Fault>> {
        let whole = |violation: Violation| vec![Fault { pointer: pointer.to_owned(), message: violation.message }];
        crate::validate_id(id).map_err(whole)?;
        let entry = self.trunks.get(id);
        let id: Arc<str> = entry.map_or_else(|| Arc::from(id), |entry| entry.trunk.id.clone());
        if change.is_null() {
            return Ok((id, None));
        }
        let mut members = entry.map(|entry| entry.trunk.to_members(false)).unwrap_or_default();
        let patch = to_raw_value(change).map_err(|_| Violation::bad("the change cannot be read"));
        let patch = patch.and_then(|raw| parse::object(raw.get().as_bytes())).map_err(whole)?;
        members.merge(&patch).map_err(|_| whole(Violation::bad("the change cannot be read")))?;
        let known = entry.and_then(|entry| entry.trunk.register.as_deref());
        let origin = Origin::Client { known, realm: &self.settings.realm };
        let trunk = Arc::new(parse::trunk(&id, &members, origin, pointer)?);
        let mut view = match entry {
            Some(entry) => View { trunk: trunk.clone(), ..self.view_of(entry, now) },
            None => View::fresh(trunk.clone(), now),
        };
        view.reasons.retain(|reason| *reason != Reason::Disabled);
        if !trunk.enabled {
            view.reasons.push(Reason::Disabled);
        }
        imagine_status(&mut view, change, pointer)?;
        imagine_admin(&mut view, change, pointer)?;
        Ok((id, Some(view)))
    }
}

fn imagine_status(view: &mut View, change: &Value, pointer: &str) -> Result<(), Vec<Fault>> {
    let of_the_operator =
        |reason: &Reason| matches!(reason, Reason::Disabled | Reason::Draining | Reason::OutOfService);
    match change.get("status").map(Value::as_str) {
        None => {}
        Some(Some("up")) => {
            view.reasons.retain(of_the_operator);
            (view.up, view.lease_up) = (true, true);
        }
        Some(Some("down")) => {
            view.reasons.push(Reason::Health("imagined to be down".to_owned()));
            view.up = false;
        }
        Some(_) => {
            let message = "status must be \"up\" or \"down\"".to_owned();
            return Err(vec![Fault { pointer: format!("{pointer}/status"), message }]);
        }
    }
    Ok(())
}

fn imagine_admin(view: &mut View, change: &Value, pointer: &str) -> Result<(), Vec<Fault>> {
    let Some(intent) = change.get("admin") else { return Ok(()) };
    let admin = if intent.is_null() {
        None
    } else {
        let read = Admin::parse(intent.to_string().as_bytes());
        Some(read.map_err(|violation| vec![Fault { pointer: format!("{pointer}/admin"), message: violation.message }])?)
    };
    view.reasons.retain(|reason| !matches!(reason, Reason::Draining | Reason::OutOfService));
    view.reasons.extend(match admin.as_ref().map(|admin| admin.state) {
        Some(AdminState::Draining) => Some(Reason::Draining),
        Some(AdminState::OutOfService) => Some(Reason::OutOfService),
        Some(AdminState::InService) | None => None,
    });
    view.admin = admin.map(Arc::new);
    Ok(())
}

type Change<T> = (Arc<str>, Old<T>, Option<Arc<T>>);

fn imagine_record<T: Planned>(
    registry: &Registry,
    id: &str,
    change: &Value,
    pointer: &str,
) -> Result<Change<T>, Vec<Fault>> {
    T::check_id(id).map_err(|violation| vec![Fault { pointer: pointer.to_owned(), message: violation.message }])?;
    let old = T::records(registry).get(id).map(|kept| kept.record.clone());
    let id: Arc<str> = id.into();
    if change.is_null() {
        return Ok((id, old, None));
    }
    let mut value = old.as_ref().map_or_else(|| Value::Object(Map::new()), |old| old.to_json());
    merge_value(&mut value, change.clone());
    let new = T::read(&id, &value, pointer)?;
    Ok((id, old, Some(Arc::new(new))))
}
