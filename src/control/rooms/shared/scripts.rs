//! What happens in Redis, each step as a whole: scripts in its own language, with the reference's keys.
//! Keys of our own begin with `shardcast:rooms:`, and are those of the leases and of resumed ids; a member
//! that they do not name (one of palava-machine's) is never taken away.

use redis::{Connection, RedisResult};

use crate::control::redis_link::Script;

/// Texts of members in a script's arguments; an empty one stands for none.
const LEAVE_FUNCTION: &str = r#"
local function publish(room, text)
  for _, other in ipairs(redis.call('SMEMBERS', 'store:room:members:' .. room)) do
    redis.call('PUBLISH', 'ps:connection:' .. other, text)
  end
end
-- Takes a member out and tells the others; {closed, peak, since} of the room, or nil if it was no member.
local function leave(peer, room, now)
  local members = 'store:room:members:' .. room
  if redis.call('SREM', members, peer) == 0 then return nil end
  local hour = string.format('%d', now - now % 3600)
  local joined = tonumber(redis.call('GET', 'store:connection:joined:' .. peer) or now)
  local minutes = string.format('%d', math.max(0, math.floor((now - joined) / 60)))
  redis.call('HINCRBY', 'store:stats:connection_time:' .. hour, minutes, 1)
  redis.call('DEL', 'store:connection:joined:' .. peer, 'store:connection:room:' .. peer,
    'store:connection:status:' .. peer)
  if redis.call('SCARD', members) > 0 then
    publish(room, '{"event":"peer_left","sender_id":"' .. peer .. '"}')
    return {0, 0, 0}
  end
  local peak = tonumber(redis.call('GET', 'store:room:peak_members:' .. room) or 1)
  local since = tonumber(redis.call('GET', 'shardcast:rooms:since:' .. room) or now)
  redis.call('HINCRBY', 'store:stats:room_peaks:' .. hour, string.format('%d', peak), 1)
  redis.call('DEL', 'store:room:peak_members:' .. room, 'shardcast:rooms:since:' .. room)
  return {1, peak, since}
end
-- Puts a member in.
local function enter(peer, room, joined, node, token, name, agent)
  local members = 'store:room:members:' .. room
  redis.call('SADD', members, peer)
  local count = redis.call('SCARD', members)
  if count > tonumber(redis.call('GET', 'store:room:peak_members:' .. room) or 0) then
    redis.call('SET', 'store:room:peak_members:' .. room, count)
  end
  redis.call('SET', 'shardcast:rooms:since:' .. room, joined, 'NX', 'EX', 604800)
  redis.call('SET', 'store:connection:joined:' .. peer, joined)
  redis.call('SET', 'store:connection:room:' .. peer, room)
  if name ~= '' then redis.call('HSET', 'store:connection:status:' .. peer, 'name', name) end
  if agent ~= '' then redis.call('HSET', 'store:connection:status:' .. peer, 'user_agent', agent) end
  redis.call('HSET', 'shardcast:rooms:members:' .. node, peer, room .. ' ' .. token)
  redis.call('SET', 'shardcast:rooms:resume:' .. token, peer .. ' ' .. room .. ' ' .. node)
end
"#;

/// peer, room, now, max members, text for the others, node, token, old token, name, agent →
/// `{"ok", first, node of the connection that was there before, closed, peak, since, id, name, agent, …}`,
/// or one of `stale`, `already`, `full`.
const JOIN: &str = r#"
local peer, room, now, most, text, node, token, old, name, agent = unpack(ARGV)
now = tonumber(now)
local members = 'store:room:members:' .. room
local is_there = redis.call('SISMEMBER', members, peer)
local before = ''
if old ~= '' then
  local value = redis.call('GET', 'shardcast:rooms:resume:' .. old) or ''
  local id, of, at = string.match(value, '^(%S+) (%S+) (%S+)$')
  if id ~= peer or of ~= room then return {'stale'} end
  if is_there == 1 then before = at end
elseif redis.call('EXISTS', 'store:connection:room:' .. peer) == 1 then
  return {'already'}
end
if tonumber(most) > 0 and redis.call('SCARD', members) - is_there >= tonumber(most) then
  return {'full'}
end
local closed = {0, 0, 0}
if before ~= '' then
  closed = leave(peer, room, now) or closed
  redis.call('HDEL', 'shardcast:rooms:members:' .. before, peer)
  if before ~= node then
    redis.call('PUBLISH', 'shardcast:rooms:node:' .. before, 'superseded ' .. peer .. ' ' .. old)
  end
end
if old ~= '' then redis.call('DEL', 'shardcast:rooms:resume:' .. old) end
local others = redis.call('SMEMBERS', members)
local first = 0
if #others == 0 then first = 1 end
publish(room, text)
enter(peer, room, now, node, token, name, agent)
local answer = {'ok', first, before, closed[1], closed[2], closed[3]}
for _, other in ipairs(others) do
  local status = redis.call('HMGET', 'store:connection:status:' .. other, 'name', 'user_agent')
  answer[#answer + 1] = other
  answer[#answer + 1] = status[1] or ''
  answer[#answer + 1] = status[2] or ''
end
return answer
"#;

/// peer, room, now, milliseconds for which its id can be resumed, node, token, whether Redis was away →
/// `{left, closed, peak, since}`
const LEAVE: &str = r#"
local peer, room, now, keep, node, token, was_away = unpack(ARGV)
local key = 'shardcast:rooms:members:' .. node
local known = redis.call('HGET', key, peer)
if known and known ~= room .. ' ' .. token then return {0, 0, 0, 0} end
if tonumber(keep) > 0 then
  redis.call('PEXPIRE', 'shardcast:rooms:resume:' .. token, keep)
else
  redis.call('DEL', 'shardcast:rooms:resume:' .. token)
end
if not known then
  -- Lost with everything else: nobody has told the others. Under another node it goes on.
  if was_away == '1' and redis.call('EXISTS', 'store:connection:room:' .. peer) == 0 then
    publish(room, '{"event":"peer_left","sender_id":"' .. peer .. '"}')
  end
  return {0, 0, 0, 0}
end
redis.call('HDEL', key, peer)
local result = leave(peer, room, tonumber(now))
if not result then return {0, 0, 0, 0} end
return {1, result[1], result[2], result[3]}
"#;

/// peer, room, text, name, agent → 1, or 0 when it is no member
const UPDATE: &str = r#"
local peer, room, text, name, agent = unpack(ARGV)
if redis.call('SISMEMBER', 'store:room:members:' .. room, peer) == 0 then return 0 end
if name ~= '' then redis.call('HSET', 'store:connection:status:' .. peer, 'name', name) end
if agent ~= '' then redis.call('HSET', 'store:connection:status:' .. peer, 'user_agent', agent) end
publish(room, text)
return 1
"#;

/// from, room, to, text (empty: only ask) → 1, 0 when `to` is not in the room, -1 when `from` is not
const SEND: &str = r#"
local from, room, to, text = unpack(ARGV)
if redis.call('SISMEMBER', 'store:room:members:' .. room, from) == 0 then return -1 end
if redis.call('SISMEMBER', 'store:room:members:' .. room, to) == 0 then return 0 end
if text ~= '' then redis.call('PUBLISH', 'ps:connection:' .. to, text) end
return 1
"#;

/// peer, room, joined, node, token, name, agent, text for the others or nothing → 1 when it was not there
const RESTORE: &str = r#"
local peer, room, joined, node, token, name, agent, text = unpack(ARGV)
if redis.call('HGET', 'shardcast:rooms:members:' .. node, peer) == room .. ' ' .. token then return 0 end
if redis.call('SISMEMBER', 'store:room:members:' .. room, peer) == 1 then return 0 end
if text ~= '' then publish(room, text) end
enter(peer, room, joined, node, token, name, agent)
return 1
"#;

/// dead node, now, milliseconds for which ids can be resumed, cursor (at first 0) →
/// `{members that are left or -1 when it lives, the next cursor, found}`. One call is a short step. All have
/// been looked at when the cursor is 0 again and nothing was found.
const REAP: &str = r#"
local node, now, keep, cursor = unpack(ARGV)
if redis.call('EXISTS', 'shardcast:rooms:lease:' .. node) == 1 then return {-1, 0, 0} end
local key = 'shardcast:rooms:members:' .. node
-- One call sees at most 1,000 buckets: always from 0, it would never get past those that are empty by now.
local page = redis.call('HSCAN', key, cursor, 'COUNT', 100)
local following, found, texts = page[1], page[2], 0
for i = 1, #found, 2 do
  local peer, room, token = found[i], string.match(found[i + 1], '^(%S+) (%S+)$')
  texts = texts + redis.call('SCARD', 'store:room:members:' .. room)
  leave(peer, room, tonumber(now))
  redis.call('HDEL', key, peer)
  if tonumber(keep) > 0 then
    redis.call('PEXPIRE', 'shardcast:rooms:resume:' .. token, keep)
  else
    redis.call('DEL', 'shardcast:rooms:resume:' .. token)
  end
  -- Many to tell: the same cursor finds the rest.
  if texts >= 10000 then
    following = cursor
    break
  end
end
local left = redis.call('HLEN', key)
if left == 0 then redis.call('SREM', 'shardcast:rooms:nodes', node) end
return {left, following, #found}
"#;

/// The scripts as Redis knows them.
#[derive(Clone, Debug)]
pub(super) struct Scripts {
    pub(super) join: Script,
    pub(super) leave: Script,
    pub(super) update: Script,
    pub(super) send: Script,
    pub(super) restore: Script,
    pub(super) reap: Script,
}

impl Scripts {
    /// Gives them to Redis.
    pub(super) fn load(connection: &mut Connection) -> RedisResult<Self> {
        let mut load = |body: &str| -> RedisResult<Script> {
            Script::load(connection, &format!("{LEAVE_FUNCTION}{body}"))
        };
        Ok(Self {
            join: load(JOIN)?,
            leave: load(LEAVE)?,
            update: load(UPDATE)?,
            send: load(SEND)?,
            restore: load(RESTORE)?,
            reap: load(REAP)?,
        })
    }
}
