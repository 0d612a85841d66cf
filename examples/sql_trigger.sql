-- Jobs from triggers: whoever writes the table, with whatever language, enqueues in the same transaction.
--
-- Each function here runs with the rights of the one who writes the table: enqueue() needs the grant
-- `producer`, cancel_ref() the grant `worker`.

drop table if exists example_customer;
create table example_customer (
    id bigint generated always as identity primary key,
    email text not null,
    note text
);

-- `ref` names the row, so that all that is still to be done for it can be cancelled with it.
create or replace function example_customer_added() returns trigger
language plpgsql
as $$
begin
    perform pgqueue.enqueue(
        kind => 'customer.welcome',
        payload => jsonb_build_object('email', new.email, 'note', new.note),
        queue => 'crm',
        delay => interval '1 hour',
        ref => 'customer:' || new.id
    );
    return null;
exception
    -- The customer matters more than the mail. Without this block an enqueue that fails makes the
    -- insert fail too, which is what you want if the job must not be missing. The block costs a
    -- savepoint for each row.
    when others then
        raise warning 'customer % gets no welcome: %', new.id, sqlerrm;
        return null;
end
$$;

create trigger customer_added after insert on example_customer
    for each row execute function example_customer_added();

create or replace function example_customer_deleted() returns trigger
language plpgsql
as $$
begin
    perform pgqueue.cancel_ref('customer:' || old.id, 'the customer is deleted');
    return null;
end
$$;

create trigger customer_deleted after delete on example_customer
    for each row execute function example_customer_deleted();
