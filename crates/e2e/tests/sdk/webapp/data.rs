//! Parameters, forms, JSON, uploads, cookies and sessions.

use serde::{Deserialize, Serialize};
use servlet::prelude::*;

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
    #[serde(default)]
    topping: Vec<String>,
}

#[servlet("/items/{id}")]
fn items(request: &Request, response: &mut Response) -> Result {
    let id: u32 = request.path("id")?;
    response.text(format!("item {id}"))
}

#[servlet("/form", methods = [GET, POST])]
fn form(request: &Request, response: &mut Response) -> Result {
    let order: Order = request.form()?;
    response.text(format!("{order:?}"))
}

#[servlet("/form-async", methods = [POST])]
async fn form_async(request: &Request, response: &mut Response) -> Result {
    request.form_read().await?;
    let order: Order = request.form()?;
    response.text(format!("{order:?}"))
}

#[servlet("/query", methods = [GET, POST])]
fn query(request: &Request, body: &mut Body, response: &mut Response) -> Result {
    let order: Order = request.query_as()?;
    let rest = body.text(1000)?;
    response.text(format!("{order:?} {rest:?}"))
}

#[servlet("/json", methods = [POST])]
fn json(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    let order: Order = body.json(1000)?;
    response.status(201)?.json(&order)
}

#[servlet("/json-async", methods = [POST])]
async fn json_async(_: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
    let order: Order = body.json(1000).await?;
    response.status(201)?.json(&order)
}

/// As deep as the client likes.
#[derive(Deserialize)]
struct Tree(Vec<Tree>);

impl Tree {
    fn depth(&self) -> usize {
        1 + self.0.iter().map(Tree::depth).max().unwrap_or(0)
    }
}

#[servlet("/tree", methods = [POST])]
fn tree(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    let tree: Tree = body.json(1 << 20)?;
    response.text(tree.depth().to_string())
}

#[servlet("/upload", methods = [POST], multipart)]
fn upload(request: &Request, response: &mut Response) -> Result {
    save(request, response)
}

#[servlet("/upload-async", methods = [POST], multipart)]
async fn upload_async(request: &Request, response: &mut Response) -> Result {
    request.parts_read().await?;
    save(request, response)
}

fn save(request: &Request, response: &mut Response) -> Result {
    let folder = request.context().work_folder().ok_or_else(|| error(500, "no work folder"))?;
    let mut text = String::new();
    for part in request.parts()? {
        let name = part.safe_file_name();
        match &name {
            Some(name) => part.save_to(folder.join(name))?,
            None => text.push_str(&part.text(100)?),
        }
        let kind = if part.bytes().is_some() { "memory" } else { "file" };
        text.push_str(&format!(" {}={name:?}:{}:{kind}\n", part.name(), part.size()));
    }
    response.text(text)
}

#[servlet("/cookies")]
fn cookies(request: &Request, response: &mut Response) -> Result {
    let before = request.cookie("taste")?.unwrap_or("nothing").to_owned();
    let all = request.cookies()?.count();
    let cookie = Cookie::new("taste", "sweet").path("/").max_age(60).http_only().same_site(SameSite::Lax);
    response.cookie(&cookie)?.text(format!("{before} of {all}"))
}

/// What the sessions hold; an older library has held another shape. The test changes this line.
type Shape = Vec<u32>;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cart {
    owner: String,
    items: Shape,
}

#[servlet("/cart")]
fn cart(request: &Request, response: &mut Response) -> Result {
    let session = request.session()?;
    let cart = match request.query() {
        Some("add") => {
            let mut cart: Cart = session.get("cart")?.unwrap_or_default();
            cart.owner = "Ada".to_owned();
            cart.items.push(Default::default());
            session.set("cart", &cart)?;
            Some(cart)
        }
        Some("forgive") => session.get_or_remove("cart")?,
        _ => session.get("cart")?,
    };
    response.text(format!("{:?}", cart.map(|cart| (cart.owner, cart.items.len()))))
}

#[servlet("/tls")]
fn tls(request: &Request, response: &mut Response) -> Result {
    let Some(tls) = request.tls() else { return response.text("plain") };
    let (protocol, cipher, name) = (tls.protocol(), tls.cipher(), tls.server_name());
    let mut text = format!("{} {} {}", protocol.unwrap_or("-"), cipher.unwrap_or("-"), name.unwrap_or("-"));
    for certificate in tls.certificates() {
        text.push(' ');
        certificate.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    }
    response.text(text)
}
