-- The weeks of the newest month of examples have as much fraud as the weeks before them, within a factor of three. Few
-- payments or frauds say nothing. And between one in 10,000 and one in 20 of a week's payments are fraud. Other data
-- are legal: a warning, since labels may have stopped, or come twice, and a model trained on them needs a look.
{{ config(severity='warn') }}
with

weeks as (
    select
        date_trunc('week', event_date) as first_day,
        count(*) as examples,
        cast(count_if(is_fraud) as double) as frauds
    from {{ ref('mart_training_examples') }}
    group by date_trunc('week', event_date)
),

history as (
    select
        *,
        sum(examples) over (order by first_day rows between unbounded preceding and 1 preceding) as examples_before,
        sum(frauds) over (order by first_day rows between unbounded preceding and 1 preceding) as frauds_before
    from weeks
),

final as (
    select
        first_day,
        examples,
        frauds,
        if(examples_before >= 1000, examples * frauds_before / examples_before) as usual_frauds
    from history
    where first_day > (select max(weeks.first_day) from weeks) - interval '28' day
)

select * from final
where
    (examples >= 5000 and frauds / examples not between 0.0001 and 0.05)
    or frauds > 3 * greatest(usual_frauds, 30)
    or (usual_frauds >= 30 and frauds < usual_frauds / 3)
