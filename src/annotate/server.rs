//! The page's server: routes, who may ask, what is sent with every answer.
//!
//! Everything goes to the log before anybody hears of it. What is granted is `desk`'s to say.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use chrono::{SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::desk::{Desk, Refusal, Submission};
use super::links::{self, Links};
use super::log::Log;
use super::page;
use super::quality::quality;
use super::view;
use crate::data::annotations::{Draft, Line, Session};

/// Bytes of a request at most.
const LARGEST: usize = 16 << 20;

/// What all requests share.
pub struct Office {
    /// Named on the page.
    pub title: String,
    /// Who may ask.
    pub links: Links,
    desk: Mutex<(Desk, Log)>,
}

/// The time by the machine's clock.
#[must_use]
pub fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl Office {
    /// Opens for work on what `desk` holds, and writes that down.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn new(title: String, links: Links, desk: Desk, mut log: Log) -> Result<Self> {
        let session = Line::Session(Session {
            time: now(),
            runner: env!("CARGO_PKG_VERSION").to_owned(),
            guideline: desk.config.guideline.clone(),
            items: desk.items.len(),
            answers: desk.wanted(),
        });
        log.append(&session)?;
        let mut desk = desk;
        desk.take(session, Instant::now());
        Ok(Self { title, links, desk: Mutex::new((desk, log)) })
    }

    fn desk(&self) -> MutexGuard<'_, (Desk, Log)> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the page until the process ends.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(office: Office, listener: TcpListener) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("cannot start the server")?.block_on(async {
        listener.set_nonblocking(true).context("cannot use the listener")?;
        let listener = tokio::net::TcpListener::from_std(listener).context("cannot use the listener")?;
        axum::serve(listener, router(Arc::new(office))).await.context("the server stopped")
    })
}

fn router(office: Arc<Office>) -> Router {
    Router::new()
        .route("/{token}/", get(page))
        .route("/{token}/api/session", post(session))
        .route("/{token}/api/next", post(next))
        .route("/{token}/api/open", post(open))
        .route("/{token}/api/release", post(release))
        .route("/{token}/api/diff", post(diff))
        .route("/{token}/api/draft", post(draft))
        .route("/{token}/api/submit", post(submit))
        .route("/{token}/api/items", post(items))
        .route("/{token}/api/disputed", post(disputed))
        .route("/{token}/api/quality", get(statistics))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(middleware::from_fn_with_state(Arc::clone(&office), guard))
        .with_state(office)
}

/// Whose page is asking; nobody in particular where all share one.
#[derive(Clone)]
struct Owner(Option<String>);

/// Lets only those in who know a token, and ask this machine by its own name: a foreign page that had its name point here could
/// otherwise read what is on the page.
async fn guard(State(office): State<Arc<Office>>, mut request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let token = request.uri().path().split('/').nth(1).unwrap_or_default();
    let owner = office.links.whose(token).filter(|_| ["127.0.0.1", "localhost", "[::1]"].contains(&name));
    let mut response = match owner {
        None => (StatusCode::NOT_FOUND, "not found").into_response(),
        Some(owner) => {
            request.extensions_mut().insert(Owner(owner.map(str::to_owned)));
            next.run(request).await
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

/// Why a request gets no answer.
struct Refused(StatusCode, Value);

impl Refused {
    fn invalid(error: impl std::fmt::Display) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, json!({ "error": error.to_string() }))
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        tracing::warn!("{error:#}");
        Self(StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": format!("{error:#}") }))
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown => Self(StatusCode::NOT_FOUND, json!({ "error": "there is no such item" })),
            Refusal::Invalid(why) => Self::invalid(why),
            Refusal::Conflict { theirs, version } => {
                let error = format!("{} answered meanwhile", theirs.annotator);
                Self(StatusCode::CONFLICT, json!({ "error": error, "theirs": theirs, "version": version }))
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

type Answered = Result<Json<Value>, Refused>;
type Asked = (State<Arc<Office>>, Extension<Owner>);

/// What somebody asks, who says their name.
#[derive(Deserialize)]
struct Said<T> {
    #[serde(default)]
    annotator: String,
    #[serde(flatten)]
    what: T,
}

impl<T> Said<T> {
    /// Who asks: whose page it is, else who they say they are.
    fn open(self, owner: Owner) -> Result<(String, T), Refused> {
        let name = owner.0.map_or_else(|| links::name(&self.annotator), Ok).map_err(Refused::invalid)?;
        Ok((name, self.what))
    }
}

async fn page() -> Result<Response, Refused> {
    let (text, policy) = page::render()?;
    let policy = HeaderValue::try_from(policy).map_err(anyhow::Error::from)?;
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    Ok(([(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, policy)], text).into_response())
}

#[derive(Deserialize)]
struct Nothing {}

async fn session((State(office), Extension(owner)): Asked, Json(asked): Json<Said<Nothing>>) -> Answered {
    let is_owned = owner.0.is_some();
    let (desk, who) = (office.desk(), asked.open(owner).ok().map(|(who, _)| who));
    Ok(Json(view::session(&desk.0, &office.title, who.as_deref(), is_owned)))
}

#[derive(Deserialize)]
struct After {
    after: Option<usize>,
}

async fn next((State(office), Extension(owner)): Asked, Json(asked): Json<Said<After>>) -> Answered {
    let (who, After { after }) = asked.open(owner)?;
    let (mut desk, now) = (office.desk(), Instant::now());
    let index = desk.0.next(&who, after, now);
    Ok(Json(view::opened(&mut desk.0, index, &who, now)))
}

/// An item, by place or by id.
#[derive(Deserialize)]
struct Which {
    index: Option<usize>,
    #[serde(default)]
    item: String,
}

impl Which {
    fn find(&self, desk: &Desk) -> Result<usize, Refused> {
        let index = self.index.or_else(|| desk.place(&self.item)).filter(|index| *index < desk.items.len());
        index.ok_or_else(|| Refusal::Unknown.into())
    }
}

async fn open((State(office), Extension(owner)): Asked, Json(asked): Json<Said<Which>>) -> Answered {
    let (who, which) = asked.open(owner)?;
    let (mut desk, now) = (office.desk(), Instant::now());
    let index = which.find(&desk.0)?;
    Ok(Json(view::opened(&mut desk.0, Some(index), &who, now)))
}

async fn release((State(office), Extension(owner)): Asked, Json(asked): Json<Said<Which>>) -> Answered {
    let (who, which) = asked.open(owner)?;
    let mut desk = office.desk();
    let index = which.find(&desk.0)?;
    desk.0.release(index, &who);
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct Edited {
    item: String,
    #[serde(default)]
    swapped: bool,
    revised: String,
}

async fn diff(State(office): State<Arc<Office>>, Json(edited): Json<Edited>) -> Answered {
    let (item, labeller) = {
        let desk = office.desk();
        let index = desk.0.place(&edited.item).ok_or(Refusal::Unknown)?;
        let item = &desk.0.items[index];
        (if edited.swapped { item.preferred.clone() } else { item.original.clone() }, Arc::clone(&desk.0.labeller))
    };
    Ok(Json(view::change(&item, &edited.revised, &labeller.change(&item, &edited.revised))))
}

async fn draft((State(office), Extension(owner)): Asked, Json(asked): Json<Said<Value>>) -> Answered {
    let (who, mut what) = asked.open(owner)?;
    what["annotator"] = who.into();
    what["time"] = now().into();
    let draft: Draft = serde_json::from_value(what).map_err(Refused::invalid)?;
    let mut office = office.desk();
    let (desk, log) = &mut *office;
    desk.place(&draft.item).ok_or(Refusal::Unknown)?;
    let (time, line) = (draft.time.clone(), Line::Draft(draft));
    log.append(&line)?;
    desk.take(line, Instant::now());
    Ok(Json(json!({ "saved": time })))
}

async fn submit((State(office), Extension(owner)): Asked, Json(asked): Json<Said<Submission>>) -> Answered {
    let (who, submission) = asked.open(owner)?;
    let mut office = office.desk();
    let (desk, log) = &mut *office;
    let annotation = desk.judge(&submission, &who, now())?;
    let line = Line::Annotation(Box::new(annotation));
    log.append(&line)?;
    desk.take(line, Instant::now());
    Ok(Json(json!({ "progress": view::progress(desk, &who) })))
}

async fn items((State(office), Extension(owner)): Asked, Json(asked): Json<Said<view::Search>>) -> Answered {
    let (who, search) = asked.open(owner)?;
    Ok(Json(view::items(&office.desk().0, &search, &who)))
}

async fn disputed((State(office), Extension(owner)): Asked, Json(asked): Json<Said<After>>) -> Answered {
    let (who, After { after }) = asked.open(owner)?;
    Ok(Json(view::disputed(&office.desk().0, after, &who)))
}

async fn statistics(State(office): State<Arc<Office>>) -> Answered {
    let desk = office.desk();
    let mut found = json!(quality(&desk.0.record));
    found["disputed"] = desk.0.disputed().len().into();
    for item in found["worst"].as_array_mut().into_iter().flatten() {
        item["index"] = json!(item["item"].as_str().and_then(|id| desk.0.place(id)));
    }
    Ok(Json(found))
}
