#!/usr/bin/env node
// A back end for hooks in the SRS dialect: prints every event and lets everybody in.
//
//     node server.js 8085
//
// Answer anything but 0 to refuse: see `judge`.
'use strict';
const http = require('node:http');

// What a line about an event shows, by action.
const fields = {
  on_connect: ['pageUrl'],
  on_close: [],
  on_publish: ['stream'],
  on_unpublish: ['stream'],
  on_play: ['stream'],
  on_stop: ['stream'],
};
const actions = {
  '/api/v1/clients': ['on_connect', 'on_close'],
  '/api/v1/streams': ['on_publish', 'on_unpublish'],
  '/api/v1/sessions': ['on_play', 'on_stop'],
};

function trace(text) {
  const now = new Date().toISOString().slice(0, 19).replace('T', ' ');
  console.log(`[${now}][trace] ${text}`);
}

// 0 lets the client go on; any other number refuses.
function judge(event) {
  return 0;
}

function answer(response, status, text) {
  response.writeHead(status, { 'Content-Length': Buffer.byteLength(text) });
  response.end(text);
}

const server = http.createServer((request, response) => {
  const path = request.url.split('?')[0];
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    if (request.method !== 'POST' || !actions[path]) {
      return answer(response, 404, 'no such resource');
    }
    const body = Buffer.concat(chunks).toString();
    let event;
    try {
      event = JSON.parse(body);
    } catch {
      return answer(response, 400, 'not an event');
    }
    if (!event || !actions[path].includes(event.action)) {
      return answer(response, 400, 'an event for another resource');
    }
    trace(`post to ${path.split('/').pop()}, req=${body}`);
    const names = ['client_id', 'ip', 'vhost', 'app', ...fields[event.action]];
    const values = names.map((name) => `${name.replace('_', ' ')}=${event[name]}`);
    trace(`srs ${event.action}: ${values.join(', ')}`);
    answer(response, 200, String(judge(event)));
  });
});

const port = Number(process.argv[2]);
if (process.argv.length !== 3 || !Number.isInteger(port)) {
  console.error('usage: server.js PORT');
  process.exit(1);
}
server.listen(port, '127.0.0.1', () => trace(`listen on 127.0.0.1:${server.address().port}`));
