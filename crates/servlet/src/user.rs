//! Who is logged in (Servlet 13).

use crate::{Request, Result};

/// Users. Most webapps let web.toml say who may ask for what, and only look at the name here.
impl Request {
    /// Returns the name of the user who is logged in.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/me")]
    /// fn me(request: &Request, response: &mut Response) -> Result {
    ///     let Some(user) = request.user()? else { return Err(error(401, "nobody is logged in")) };
    ///     let may = if request.has_role("editor")? { "may" } else { "may not" };
    ///     response.text(format!("{user} {may} edit"))
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// let app = servlet::test::App::new();
    /// app.get("/me").send().assert_status(401);
    /// app.get("/me").user("ada", &["editor"]).send().assert_text("ada may edit");
    /// # }
    /// ```
    pub fn user(&self) -> Result<Option<&str>> {
        Ok(self.exchange().principal()?.and_then(|(name, _)| self.optional(name)))
    }

    /// Returns how that user has logged in: `BASIC`, `FORM`, ...
    pub fn auth_method(&self) -> Result<Option<&str>> {
        Ok(self.exchange().principal()?.and_then(|(_, method)| self.optional(method)))
    }

    /// Tells whether somebody is logged in who has that role.
    pub fn has_role(&self, role: &str) -> Result<bool> {
        self.exchange().in_role(role)
    }

    /// Logs a user in, if name and password are right; an error when somebody is logged in already.
    pub fn login(&self, name: &str, password: &str) -> Result<bool> {
        self.exchange().login(name, password)
    }

    /// Logs the user out, if there is one.
    pub fn logout(&self) -> Result {
        self.exchange().logout()
    }
}
