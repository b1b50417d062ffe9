//! What a servlet asks of the server beside reading and writing: dispatches, users, names.

use servlet::prelude::*;
use servlet::test::App;

servlet::module!();

#[servlet("/do/*", methods = [ANY])]
fn act(request: &Request, response: &mut Response) -> Result {
    response.write("before ")?;
    let target = request.query().unwrap_or_default();
    match request.path_info().unwrap_or_default() {
        "/forward" => return request.forward(target),
        "/forward-named" => return request.forward_named(target),
        "/include" => request.include(target)?,
        "/include-named" => request.include_named(target)?,
        "/late" => {
            response.flush()?;
            return request.forward(target);
        }
        other => return Err(error(404, other)),
    }
    response.write(" after")
}

#[servlet(unmapped)]
fn names(request: &Request, response: &mut Response) -> Result {
    response.write(format!("{} {}", request.instance_name(), request.dispatcher()))
}

#[servlet("/fails")]
fn fails(_: &Request, _: &mut Response) -> Result {
    Err(error(500, "no tea").with_kind("shop/no-tea"))
}

#[servlet("/facts", methods = [GET, POST])]
fn facts(request: &Request, body: &mut Body, response: &mut Response) -> Result {
    let length = body.all(100)?.len();
    request.set_attribute("b", "2")?;
    request.set_attribute("a", "1")?;
    let mut attributes: Vec<&str> = request.attributes()?.map(|(name, _)| name).collect();
    attributes.sort_unstable();
    let session = request.requested_session()?.map(|session| (session.id.to_owned(), session.is_valid));
    let trailers = request.trailers()?.count();
    let matched = (request.pattern(), request.pattern_value(), request.pattern_kind());
    assert_eq!(matched, ("/facts", Some("facts"), "EXACT"));
    let url = response.encode_url("/next?a=1")?;
    let user = (request.user()?, request.auth_method()?, request.has_role("cook")?, request.login("ada", "x").is_err());
    request.logout()?;
    let cookie = Cookie::new("a", "b").attribute("Priority", "High");
    response.cookie(&cookie)?.charset("UTF-8")?.buffer_size(100)?;
    write!(response, "{length} {:?} {attributes:?} {session:?} {trailers} {url} {user:?}", request.charset())
}

#[servlet("/later/*")]
async fn later(request: &Request, _: &mut Response) -> Result {
    request.async_dispatch(request.query()).await
}

#[track_caller]
fn check(target: &str, status: u16, text: &str) {
    App::new().get(target).send().assert_status(status).assert_text(text);
}

#[test]
fn what_is_dispatched_to_answers() {
    check("/do/forward-named?names", 200, "names FORWARD");
    check("/do/include-named?names", 200, "before names INCLUDE after");
    let fails = |target: &str, text: &str| {
        App::new().get(target).send().assert_status(500).assert_error(text);
    };
    fails("/do/forward-named?nobody", "this webapp has no \"nobody\" to dispatch to");
    fails("/do/forward?/fails", "no tea");
    fails("/do/include?/missing.txt", "no file /missing.txt");
}

#[test]
fn a_task_goes_on_elsewhere() {
    check("/later/?/do/include-named%3Fx", 404, "");
    check("/later/?/facts", 200, "0 None [\"a\", \"b\"] None 0 /next?a=1 (None, None, false, false)");
}

#[test]
fn facts_of_a_request() {
    let answer = App::new().post("/facts").user("ada", &["cook"]).cookie("JSESSIONID", "77").body("tea").send();
    let text = "3 None [\"a\", \"b\"] Some((\"77\", false)) 0 /next?a=1 (Some(\"ada\"), Some(\"TEST\"), true, true)";
    answer.assert_status(200).assert_text(text).assert_header("set-cookie", "a=b; Priority=High");
}
