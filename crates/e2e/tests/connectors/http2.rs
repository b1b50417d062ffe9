//! HTTP/2 by prior knowledge: many requests at once, bodies both ways, trailers, bounds, and the end of a connection.

use std::time::Duration;

use bytes::Bytes;
use e2e::serval::Serval;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use tokio::task::JoinHandle;

use crate::{LONG, logged, start};

/// A connection; what it ended with, if it has.
pub async fn connect(serval: &Serval) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = tokio::net::TcpStream::connect(serval.address()).await.unwrap();
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 16)
        .initial_connection_window_size(1 << 20)
        .handshake(stream)
        .await
        .unwrap();
    (client.ready().await.unwrap(), tokio::spawn(connection))
}

pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.test{path}")).body(()).unwrap()
}

/// The head, the body and the trailers of an answer.
pub async fn read(
    response: Response<h2::RecvStream>,
) -> Result<(http::response::Parts, Vec<u8>, HeaderMap), h2::Error> {
    let (head, mut body) = response.into_parts();
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        all.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok((head, all, trailers))
}

pub async fn ask(client: &mut SendRequest<Bytes>, request: Request<()>) -> (u16, String) {
    let (answer, _) = client.send_request(request, true).unwrap();
    let (head, body, _) = read(answer.await.unwrap()).await.unwrap();
    (head.status.as_u16(), String::from_utf8_lossy(&body).into_owned())
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, test).await.expect("it hangs") });
}

#[test]
fn many_requests_at_once() {
    let (home, serval) = start("");
    run(async {
        let (client, connection) = connect(&serval).await;
        for _ in 0..3 {
            let mut answers = Vec::new();
            // As many as a connection may have at once.
            for number in 0..100 {
                let mut client = client.clone().ready().await.unwrap();
                let path = ["/", "/x/look", "/x/slow", "/large.bin", "/none"][number % 5];
                let (answer, _) = client.send_request(get(path), true).unwrap();
                answers.push((path, tokio::spawn(async move { read(answer.await?).await })));
            }
            for (path, answer) in answers {
                let (head, body, _) = answer.await.unwrap().unwrap();
                let is_right = match path {
                    "/" => body == b"welcome",
                    "/x/look" => body.starts_with(b"20 127.0.0.1\n"),
                    "/x/slow" => body == b"slow",
                    "/large.bin" => body == vec![7; 3 << 20],
                    _ => head.status == 404,
                };
                assert!(is_right, "{path}: {head:?} with {} bytes", body.len());
            }
        }
        drop(client);
        connection.await.unwrap().unwrap();
    });
    logged(&home, "127.0.0.1 \"GET /x/slow HTTP/2.0\" 200 -");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_request_is_told_as_one_of_http_1() {
    let (home, serval) = start("head_bytes_max = \"8KiB\"\ntarget_bytes_max = 1024\nheader_count_max = 20");
    run(async {
        let (mut client, _connection) = connect(&serval).await;
        let request =
            Request::get("http://a.test:81/x/look").header("cookie", "a=1").header("x-y", "z").header("cookie", "b=2");
        let (_, text) = ask(&mut client, request.body(()).unwrap()).await;
        assert_eq!(text, "20 127.0.0.1\ncookie: a=1; b=2\nx-y: z\nhost: a.test:81\n");
        // Whom it means is said once.
        let differs = Request::get("http://a.test/x/look").header("host", "b.test").body(()).unwrap();
        assert_eq!(ask(&mut client, differs).await.0, 400);
        assert_eq!(ask(&mut client, get(&format!("/{}", "x".repeat(1100)))).await.0, 414);
        let many =
            (0..30).fold(Request::get("http://a.test/"), |request, number| request.header(format!("x-{number}"), "y"));
        assert_eq!(ask(&mut client, many.body(()).unwrap()).await.0, 431);
        let large = Request::get("http://a.test/").header("x", "y".repeat(9000)).body(()).unwrap();
        assert_eq!(ask(&mut client, large).await.0, 431);
        assert_eq!(ask(&mut client, get("/..%2f..%2fetc/passwd")).await.0, 400);
        assert_eq!(ask(&mut client, Request::connect("a.test:80").body(()).unwrap()).await.0, 501);
        assert_eq!(ask(&mut client, get("/")).await, (200, "welcome".to_owned()), "the connection goes on");
    });
    logged(&home, "\"GET / HTTP/2.0\" 431 the head is larger than head_bytes_max or header_count_max");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    let (_home, serval) = start("trailers = [\"x-end\"]");
    run(async {
        let (mut client, _connection) = connect(&serval).await;
        let post = Request::post("http://a.test/x/length").header("te", "trailers").body(()).unwrap();
        let (answer, mut body) = client.send_request(post, false).unwrap();
        let mut left = 5 << 20;
        while left > 0 {
            body.reserve_capacity(left.min(60_000));
            let room = std::future::poll_fn(|task| body.poll_capacity(task)).await.unwrap().unwrap();
            body.send_data(vec![1; room].into(), false).unwrap();
            left -= room;
        }
        let trailers =
            [("x-end", "1"), ("x-other", "2")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        body.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        let (head, body, trailers) = read(answer.await.unwrap()).await.unwrap();
        assert_eq!((head.status.as_u16(), &*body), (200, &b"5242880 x-end=1"[..]));
        assert_eq!(trailers.get("x-sum").map(|value| value.as_bytes()), Some(&b"7"[..]));
    });
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_stop_finishes_what_is_under_way() {
    let (_home, serval) = start("");
    let pid = serval.program().id();
    run(async {
        let (mut client, connection) = connect(&serval).await;
        assert_eq!(ask(&mut client, get("/")).await.0, 200);
        let (answer, _) = client.send_request(get("/x/slow"), true).unwrap();
        // It has come when another one behind it is answered.
        assert_eq!(ask(&mut client, get("/")).await.0, 200);
        e2e::process::terminate(pid).unwrap();
        let (head, body, _) = read(answer.await.unwrap()).await.unwrap();
        assert_eq!((head.status.as_u16(), &*body), (200, &b"slow"[..]));
        drop(client);
        let ended = connection.await.unwrap();
        assert!(ended.is_ok(), "with GOAWAY, and no error: {ended:?}");
    });
    assert!(serval.wait().unwrap().success());
}

#[test]
fn a_connection_ends_when_it_has_had_its_share_or_is_idle() {
    for listener in ["requests_per_connection_max = 3", "keep_alive_timeout = \"500ms\""] {
        let (_home, serval) = start(listener);
        run(async {
            let (mut client, connection) = connect(&serval).await;
            for _ in 0..3 {
                assert_eq!(ask(&mut client, get("/x/look")).await.0, 200);
            }
            let ended = connection.await.unwrap();
            assert!(ended.is_ok(), "{listener}: with GOAWAY, and no error: {ended:?}");
        });
        assert!(serval.stop().unwrap().success());
    }
}

#[test]
fn a_client_that_does_not_read_loses_its_stream_alone() {
    let (_home, serval) = start("write_timeout = \"700ms\"");
    run(async {
        let (mut client, _connection) = connect(&serval).await;
        let (answer, _) = client.send_request(get("/x/endless"), true).unwrap();
        let (_, mut unread) = answer.await.unwrap().into_parts();
        // Its window is full then; others of the connection have theirs.
        for _ in 0..3 {
            assert_eq!(ask(&mut client, get("/x/look")).await.0, 200);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut taken = 0;
        let error = loop {
            match unread.data().await {
                // What was in the window: nothing of it is given back.
                Some(Ok(piece)) => taken += piece.len(),
                Some(Err(error)) => break error,
                None => panic!("an endless answer ended after {taken} bytes"),
            }
        };
        assert!(error.is_reset(), "{error}");
        assert_eq!(ask(&mut client, get("/")).await, (200, "welcome".to_owned()), "the connection goes on");
    });
    assert!(serval.stop().unwrap().success());
}
