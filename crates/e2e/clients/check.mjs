// Node's fetch, undici and http2: what each of them does with the server, by HTTP and by TLS.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { once } from 'node:events';
import { Agent, request, setGlobalDispatcher, stream } from 'undici';

const [plain, secure, authority] = process.argv.slice(2);
const ca = readFileSync(authority);
const large = 3 << 20;

// Node's own, which believes NODE_EXTRA_CA_CERTS.
for (const base of [plain, secure]) {
    const got = await fetch(`${base}/`);
    assert.equal(`${got.status} ${await got.text()}`, '200 welcome');
    assert.equal((await (await fetch(`${base}/large.bin`)).arrayBuffer()).byteLength, large);
    const posted = await fetch(`${base}/x/length`, { method: 'POST', body: 'x'.repeat(100_000) });
    assert.equal(await posted.text(), '100000');
    const pieces = new ReadableStream({
        start(controller) {
            for (let number = 0; number < 64; number++) controller.enqueue(new Uint8Array(16384));
            controller.close();
        },
    });
    const streamed = await fetch(`${base}/x/length`, { method: 'POST', body: pieces, duplex: 'half' });
    assert.equal(await streamed.text(), String(1 << 20));
    assert.equal((await fetch(`${base}/none`)).status, 404);
    const gone = new AbortController();
    const endless = await fetch(`${base}/x/endless`, { signal: gone.signal });
    await endless.body.getReader().read();
    gone.abort();
}

for (const [base, options] of [[plain, {}], [secure, {}], [secure, { allowH2: true }]]) {
    const agent = new Agent({ ...options, connect: { ca }, pipelining: 10, connections: 2 });
    setGlobalDispatcher(agent);
    const look = async () => {
        const answer = await request(`${base}/x/look`, { dispatcher: agent });
        assert.equal(answer.statusCode, 200);
        assert.match(await answer.body.text(), options.allowH2 ? /^20 / : /^11 /);
    };
    // Its HTTP/2 is an experiment, which fails by itself with several at once.
    if (options.allowH2) for (let number = 0; number < 10; number++) await look();
    else await Promise.all(Array.from({ length: 50 }, look));
    const posted = await request(`${base}/x/length`, { dispatcher: agent, method: 'POST', body: Buffer.alloc(1 << 20) });
    assert.equal(await posted.body.text(), String(1 << 20));
    let bytes = 0;
    const { Writable } = await import('node:stream');
    const counts = () => new Writable({ write(chunk, _, done) { bytes += chunk.length; done(); } });
    await stream(`${base}/large.bin`, { dispatcher: agent, method: 'GET' }, counts);
    assert.equal(bytes, large);
    await agent.close();
}

for (const [base, options] of [[plain, {}], [secure, { ca }]]) {
    const session = http2.connect(base, options);
    const ask = async (headers, body) => {
        const exchange = session.request(headers);
        exchange.end(body);
        const [head] = await once(exchange, 'response');
        const pieces = [];
        for await (const piece of exchange) pieces.push(piece);
        return [head[':status'], Buffer.concat(pieces)];
    };
    const all = await Promise.all(Array.from({ length: 100 }, () => ask({ ':path': '/large.bin' })));
    for (const [status, bytes] of all) assert.deepEqual([status, bytes.length], [200, large]);
    const [status, told] = await ask({ ':path': '/x/length', ':method': 'POST' }, Buffer.alloc(1 << 20));
    assert.equal(`${status} ${told}`, `200 ${1 << 20}`);
    await new Promise((done, failed) => session.ping((error) => (error ? failed(error) : done())));
    const gone = session.request({ ':path': '/x/endless' });
    await once(gone, 'data');
    gone.close(http2.constants.NGHTTP2_CANCEL);
    assert.equal((await ask({ ':path': '/' }))[1].toString(), 'welcome');
    session.close();
    await once(session, 'close');
}
console.log('fetch, undici and http2: as expected');
