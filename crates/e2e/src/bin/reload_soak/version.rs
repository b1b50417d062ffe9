/// What the soak adds to the example: a version, stamped into the built file, and padding to move the rest about.
#[used]
static SOAK_PADDING: [u8; PADDING * 4096] = [1; PADDING * 4096];
static SOAK_STAMP: [u8; 18] = *b"version 0000000000";

#[servlet::servlet("/version", inline)]
fn soak_version(_: &servlet::Request, response: &mut servlet::Response) -> servlet::Result {
    response.text(String::from_utf8_lossy(std::hint::black_box(&SOAK_STAMP)))
}
