//! `trace`: leaves its name in the attribute `fx.trail` and in a header, or answers by itself.

use servlet::prelude::*;

struct Trace {
    name: String,
    blocks: bool,
}

#[filter(unmapped, name = "trace")]
impl Filter for Trace {
    type State = ();

    fn create(config: &FilterConfig) -> Result<Trace> {
        Ok(Trace { name: config.name().to_owned(), blocks: config.init("mode") == Some("block") })
    }

    fn request(&self, request: &Request, response: &mut Response) -> Result<Flow<()>> {
        let step = format!("{}:{}", self.name, request.dispatcher());
        let trail = match request.attribute("fx.trail")? {
            Some(before) => format!("{},{step}", String::from_utf8_lossy(before)),
            None => step.clone(),
        };
        request.set_attribute("fx.trail", trail)?;
        response.add_header("X-Trail", step)?;
        if self.blocks {
            response.status(299)?.write(format!("blocked by {}", self.name))?;
            return Ok(Flow::Answered);
        }
        Ok(Flow::Next(()))
    }
}
