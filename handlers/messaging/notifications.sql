-- What handlers/messaging/notification.lua works with. Run it once, in the worker's database.

-- Every notification, as it was delivered; what an application shows its users.
create table if not exists notifications (
    id         bigint generated always as identity primary key,
    event_id   text,
    user_id    text not null,
    type       text not null,
    title      text not null,
    message    text not null,
    data       jsonb,
    created_at timestamptz not null default now(),
    read_at    timestamptz
);
create index if not exists notifications_of_user on notifications (user_id, created_at);

-- Where a user is reached: a mail address, or the URL of a webhook. The user '*' is everybody who
-- has no row of his own.
create table if not exists notification_targets (
    user_id text not null,
    type    text not null check (type in ('email', 'webhook')),
    target  text not null,
    primary key (user_id, type)
);
