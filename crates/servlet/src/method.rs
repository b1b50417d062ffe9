//! The methods of HTTP that the interface knows by number.

use serval_abi as abi;

/// A method of HTTP. Others than these are [`Method::OTHER`]; see [`Request::method_name`](crate::Request::method_name).
///
/// ```
/// use servlet::prelude::*;
///
/// #[servlet("/item", methods = [GET, DELETE])]
/// fn item(request: &Request, response: &mut Response) -> Result {
///     match request.method() {
///         Method::DELETE => response.status(204)?.done(),
///         _ => response.text("an item"),
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(pub(crate) u32);

#[allow(missing_docs)]
impl Method {
    pub const GET: Method = Method(abi::SV_GET);
    pub const HEAD: Method = Method(abi::SV_HEAD);
    pub const POST: Method = Method(abi::SV_POST);
    pub const PUT: Method = Method(abi::SV_PUT);
    pub const DELETE: Method = Method(abi::SV_DELETE);
    pub const PATCH: Method = Method(abi::SV_PATCH);
    pub const OPTIONS: Method = Method(abi::SV_OPTIONS);
    pub const TRACE: Method = Method(abi::SV_TRACE);
    pub const CONNECT: Method = Method(abi::SV_CONNECT);
    pub const OTHER: Method = Method(abi::SV_METHOD_OTHER);

    #[doc(hidden)]
    pub const fn bits(self) -> u32 {
        self.0
    }
}
