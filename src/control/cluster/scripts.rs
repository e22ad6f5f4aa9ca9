//! What happens in Redis, each step as a whole. Its keys:
//!
//! | key | value |
//! |---|---|
//! | `shardcast:stream:VHOST/APP/INSTANCE/STREAM` | `EPOCH NODE ADDRESS`, for as long as the lease lasts |
//! | `shardcast:cluster:epoch` | the number of the newest lease of all |
//! | `shardcast:cluster:run` | which run of Redis the nodes have spoken to |
//! | `shardcast:cluster:quarantine` | there for one lease after Redis has started anew |
//! | `shardcast:cluster:secret` | what only nodes of this cluster know |

use redis::{Connection, RedisResult};

use crate::control::redis_link::Script;

/// run of this Redis, a secret for the case that there is none, milliseconds of a lease → the secret
///
/// A Redis that has started anew may have forgotten leases that are still valid, and numbers that it gave
/// away: for one lease nobody gets a name but who has it, and numbers go on from the time in microseconds,
/// which is more than it can have counted to.
const HELLO: &str = r#"
local run, secret, ms = unpack(ARGV)
if redis.call('GET', 'shardcast:cluster:run') ~= run then
  redis.call('SET', 'shardcast:cluster:run', run)
  redis.call('SET', 'shardcast:cluster:quarantine', run, 'PX', ms)
  local time = redis.call('TIME')
  local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local last = tonumber(redis.call('GET', 'shardcast:cluster:epoch') or 0)
  redis.call('SET', 'shardcast:cluster:epoch', string.format('%.0f', math.max(micros, last)))
end
redis.call('SET', 'shardcast:cluster:secret', secret, 'NX')
return redis.call('GET', 'shardcast:cluster:secret')
"#;

/// node, address, milliseconds of a lease, then of each stream: its name, number of the lease that the node
/// has or had (0: none), `1` if that has not run out → of each stream one of
/// `{"held", number}`, `{"other", value, milliseconds left}`, `{"quarantine", milliseconds left}`
const CLAIM: &str = r#"
local node, address, ms = ARGV[1], ARGV[2], ARGV[3]
if redis.call('EXISTS', 'shardcast:cluster:run') == 0 then
  return redis.error_reply('LOST Redis has lost its data')
end
local quarantine = redis.call('PTTL', 'shardcast:cluster:quarantine')
local answers = {}
for i = 4, #ARGV, 3 do
  local name, epoch, is_valid = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2] == '1'
  local key = 'shardcast:stream:' .. name
  local value = redis.call('GET', key)
  local its, owner
  if value then its, owner = string.match(value, '^(%d+) (%S+) ') end
  if owner == node and tonumber(its) == epoch then
    redis.call('PEXPIRE', key, ms)
    answers[#answers + 1] = {'held', its}
  elseif owner and owner ~= node and not (is_valid and epoch > tonumber(its)) then
    answers[#answers + 1] = {'other', value, redis.call('PTTL', key)}
  elseif not owner and not is_valid and quarantine > 0 then
    answers[#answers + 1] = {'quarantine', quarantine}
  else
    redis.call('INCR', 'shardcast:cluster:epoch')
    local new = redis.call('GET', 'shardcast:cluster:epoch') .. ' ' .. node .. ' ' .. address
    redis.call('SET', key, new, 'PX', ms)
    redis.call('PUBLISH', 'shardcast:cluster:streams', new .. ' ' .. name)
    answers[#answers + 1] = {'held', string.match(new, '^%d+')}
  end
end
return answers
"#;

/// node, then of each stream its name and the number of the lease that the node gives up
const RELEASE: &str = r#"
for i = 2, #ARGV, 2 do
  local key = 'shardcast:stream:' .. ARGV[i]
  local its, owner = string.match(redis.call('GET', key) or '', '^(%d+) (%S+) ')
  if owner == ARGV[1] and its == ARGV[i + 1] then redis.call('DEL', key) end
end
return 0
"#;

/// The scripts as Redis knows them.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) hello: Script,
    pub(super) claim: Script,
    pub(super) release: Script,
}

impl Scripts {
    /// Gives them to Redis.
    pub(super) fn load(connection: &mut Connection) -> RedisResult<Self> {
        Ok(Self {
            hello: Script::load(connection, HELLO)?,
            claim: Script::load(connection, CLAIM)?,
            release: Script::load(connection, RELEASE)?,
        })
    }
}
