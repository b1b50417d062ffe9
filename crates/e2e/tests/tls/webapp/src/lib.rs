//! Answers with what it knows of TLS, in the words of `tls.c`.

use servlet::prelude::*;

#[servlet("/rust")]
fn facts(request: &Request, response: &mut Response) -> Result {
    let Some(tls) = request.tls() else { return response.text("plain") };
    let (protocol, cipher) = (tls.protocol().unwrap_or("-"), tls.cipher().unwrap_or("-"));
    let name = tls.server_name().unwrap_or("-");
    let secure = if request.is_secure() { "secure" } else { "open" };
    let mut text = format!("{protocol} {cipher} {name} {} {secure}", request.scheme());
    for certificate in tls.certificates() {
        text.push(' ');
        certificate.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    }
    response.text(text)
}

servlet::module!();
