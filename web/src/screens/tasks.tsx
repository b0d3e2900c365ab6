// The line of tasks: what runs, how far it is, what it says; cancel, resume, open what came of it.

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { useApp } from "../app";
import { Copy } from "../panel";
import { duration, ended, left, type Task } from "../work";

export function Tasks(): JSX.Element {
  const app = useApp();
  const line = app.line!;
  useEffect(() => line.watch(), []);
  const tasks = line.tasks.value;
  return (
    <section class="tx-panel" aria-label="Tasks">
      <header>
        <h3>In line and done</h3>
      </header>
      {line.failed.value && <p class="tx-warn">{line.failed.value}</p>}
      {!tasks.length && <p class="tx-quiet">Nothing was started here yet.</p>}
      {tasks.map((t) => (
        <One key={t.id} task={t} />
      ))}
    </section>
  );
}

function One({ task }: { task: Task }): JSX.Element {
  const app = useApp();
  const live = app.source.live!;
  const act = (action: "cancel" | "resume" | "forget") =>
    void live.change(task.id, action).then(
      (tasks) => app.line!.take(tasks),
      (error) => (app.said.value = error.message),
    );
  const { share, seconds } = left(task);
  const spent = task.started === null ? null : (task.ended ?? task.now) - task.started;
  const { step, done, total } = task.progress;
  return (
    <article class={`tx-task tx-${task.state}`} aria-label={`${task.title}, ${task.state}`}>
      <header>
        <b>{task.title}</b>
        <span class="tx-chip">{task.state}</span>
        {task.state !== "queued" && spent !== null && <span class="tx-quiet">{duration(spent)}</span>}
        <div class="tx-actions">
          {!ended(task) && (
            <button type="button" onClick={() => act("cancel")}>
              cancel
            </button>
          )}
          {ended(task) && task.state !== "done" && (
            <button type="button" onClick={() => act("resume")}>
              resume
            </button>
          )}
          {task.state === "done" && <Open task={task} />}
          {ended(task) && (
            <button type="button" onClick={() => act("forget")}>
              dismiss
            </button>
          )}
        </div>
      </header>
      {task.state === "running" && (
        <>
          <progress aria-label={`progress of ${task.title}`} value={share ?? undefined} max={1} />
          <p class="tx-quiet">
            {step ? `${step}: ${done} of ${total}` : "starting"}
            {seconds !== null && `, about ${duration(seconds)} left`}
            {task.progress.said && `; ${task.progress.said}`}
          </p>
        </>
      )}
      {task.message && <p class="tx-warn">{task.message}</p>}
      <details open={task.state === "failed"}>
        <summary>command and output</summary>
        <pre class="tx-command">
          <code>{task.command}</code>
        </pre>
        <Copy text={task.command} />
        {task.output.length > 0 && (
          <pre class="tx-output" tabIndex={0} aria-label={`output of ${task.title}`}>
            {task.output.join("\n")}
          </pre>
        )}
      </details>
    </article>
  );
}

/** The way to what a task has made. */
function Open({ task }: { task: Task }): JSX.Element | null {
  const app = useApp();
  const study = app.ready?.studies.find((s) => s.path === task.out);
  const store = app.ready?.stores.find((s) => s.path === task.out);
  if (!study && !store) return null;
  return (
    <button
      type="button"
      class="tx-go"
      onClick={() => {
        if (study) app.openStudy(study);
        else
          app.select(
            { screen: "study", a: app.runs.value.find((r) => r.store?.id === store!.id)?.key ?? "" },
            false,
          );
      }}
    >
      open
    </button>
  );
}
