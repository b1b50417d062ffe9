use servlet::prelude::*;

servlet::module!();

struct State;

#[start]
fn start(_: &Context) -> Result<State> {
    Ok(State)
}

#[servlet("/fine", inline)]
fn fine(_: &Request, response: &mut Response) -> Result {
    response.text("fine")
}

#[servlet("/panics", inline)]
fn panics(request: &Request, _: &mut Response) -> Result {
    let name = request.param("name")?.unwrap_or("nobody");
    panic!("the roof of {name} is on fire")
}
