//! What a request says beside its path, read as etcd reads it.

use std::time::Duration;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{FromRequest, Query, Request};
use tokio::time::timeout;

use super::protocol::{Code, EtcdError};

/// The parameters of a form and of the query; as in Go, those of the form come first.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// The first of this name.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Everything that Go's `strconv.ParseBool` takes for a boolean.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, EtcdError> {
        match self.first(name) {
            None => Ok(None),
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(Some(false)),
            Some(_) => {
                // etcd leaves the quotes away for this one.
                let quote = if name == "prevExist" { "" } else { "\"" };
                let cause = format!("invalid value for {quote}{name}{quote}");
                Err(EtcdError::request(Code::InvalidField, cause))
            }
        }
    }

    /// A number of etcd's.
    pub(super) fn index(&self, name: &str) -> Result<Option<u64>, EtcdError> {
        let cause = || format!("invalid value for \"{name}\"");
        let parse =
            |text: &str| text.parse().map_err(|_| EtcdError::request(Code::IndexNaN, cause()));
        self.first(name).map(parse).transpose()
    }

    /// Refuses to wait for a change with a request that makes one.
    pub(super) fn is_no_poll(&self) -> Result<(), EtcdError> {
        if self.flag("wait")?.unwrap_or(false) {
            let cause = "\"wait\" can only be used with GET requests";
            return Err(EtcdError::request(Code::InvalidField, cause));
        }
        Ok(())
    }

    /// Refuses what etcd can do and we cannot, rather than doing something else.
    pub(super) fn refuse(&self, names: &[&str]) -> Result<(), EtcdError> {
        let is_asked_for = |name: &&&str| {
            self.first(name).is_some_and(|value| !matches!(value, "" | "false" | "0"))
        };
        let Some(name) = names.iter().find(is_asked_for) else {
            return Ok(());
        };
        let cause = format!("\"{name}\" cannot be used here");
        Err(EtcdError::request(Code::InvalidField, cause))
    }
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = EtcdError;

    async fn from_request(request: Request, state: &S) -> Result<Self, EtcdError> {
        let invalid = |cause: String| EtcdError::request(Code::InvalidForm, cause);
        let query = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
        let Query(query) = query.map_err(|rejection| invalid(rejection.body_text()))?;
        if request.method().is_safe() {
            return Ok(Self(query));
        }
        let form = Form::<Vec<(String, String)>>::from_request(request, state);
        let mut params = match timeout(LONGEST_BODY_WAIT, form).await {
            Ok(Ok(Form(form))) => form,
            Ok(Err(FormRejection::InvalidFormContentType(_))) => Vec::new(),
            Ok(Err(rejection)) => return Err(invalid(rejection.body_text())),
            Err(_) => return Err(invalid("the form did not come".to_owned())),
        };
        params.extend(query);
        Ok(Self(params))
    }
}

/// A form follows its head at once. Who never sends it would keep its connection for ever.
const LONGEST_BODY_WAIT: Duration = Duration::from_secs(10);
