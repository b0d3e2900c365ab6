// Clouds of one run or two under one camera: turn, zoom, hover, select. At rest every point is drawn; while
// the camera moves, a fair sample of them.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { useApp } from "../app";
import { pick, project, rotation, START, type Camera, type View } from "./camera";
import { budget, indexOf, type Cloud, type Lit } from "./clouds";
import { openPainter, usePlain } from "./painter";
import type { Painter } from "./paint";

interface CloudProps {
  cloud: Cloud;
  tint: Float32Array;
  values: Float32Array | null;
  selected: Lit | null;
  onSelect: (at: Lit) => void;
  card: (at: Lit, run: string) => ComponentChildren;
  grab?: (take: () => { url: string; width: number; height: number } | null) => void;
}

const HEIGHT = 430;
const REST = 180;
/** Points of the first frame, before anything was measured. */
const FIRST = 20_000;

export function CloudView(p: CloudProps): JSX.Element {
  const app = useApp();
  const root = useRef<HTMLDivElement>(null),
    canvas = useRef<HTMLCanvasElement>(null);
  const painter = useRef<Painter | null>(null);
  const [plain, setPlain] = usePlain();
  const [width, setWidth] = useState(0);
  const [camera, setCamera] = useState<Camera>(START);
  const [hover, setHover] = useState<{ i: number; run: number; x: number; y: number } | null>(null);
  const moving = useRef(false),
    share = useRef(FIRST);
  const frame = useRef(0),
    rest = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const dark = app.theme.value === "dark";
  const narrow = width < 520;
  const count = p.cloud.runs.length;
  const views: View[] = useMemo(
    () =>
      p.cloud.runs.map((r, k) => ({
        ...(narrow
          ? { x: 0, y: k * HEIGHT, width, height: HEIGHT }
          : { x: (k * width) / count, y: 0, width: width / count, height: HEIGHT }),
        start: r.start,
        count: r.n,
        key: r.run,
        big: true,
      })),
    [p.cloud, width],
  );
  const height = narrow ? HEIGHT * count : HEIGHT;

  useLayoutEffect(() => {
    painter.current = openPainter(canvas.current!, plain, () => setPlain(true));
    return () => {
      painter.current?.free();
      painter.current = null;
    };
  }, [plain]);
  useEffect(() => {
    const watch = new ResizeObserver((e) => setWidth(Math.floor(e[0]!.contentRect.width)));
    watch.observe(root.current!);
    return () => watch.disconnect();
  }, []);
  useLayoutEffect(() => {
    const { points, radius } = p.cloud;
    painter.current?.set({ points, radius, tint: p.tint, values: p.values, dark });
  }, [p.cloud, p.tint, p.values, plain]);

  /** One frame: a sample while the camera moves; at rest part after part, until every point is there. */
  const paint = (from = 0) => {
    if (!root.current || !width) return;
    const all = p.cloud.runs.reduce((sum, r) => sum + r.n, 0);
    const to = Math.min(all, from + share.current);
    const began = performance.now();
    const cut = (v: View, at: number) => Math.floor((v.count * at) / all);
    const part = views.map((v) => ({
      ...v,
      start: v.start + cut(v, from),
      count: cut(v, to) - cut(v, from),
      of: v.count,
    }));
    painter.current?.draw(part, camera, width, height, dark, from > 0);
    const own = performance.now() - began;
    root.current.dataset["drawn"] = String(to);
    // what the graphics card still has to do shows in when the next frame comes
    frame.current = requestAnimationFrame(() => {
      const ms = Math.max(own, performance.now() - began);
      share.current = budget(all, to - from, ms);
      if (root.current) root.current.dataset["ms"] = ms.toFixed(1);
      if (!moving.current && to < all) paint(to);
    });
  };
  useLayoutEffect(() => {
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => paint());
    return () => cancelAnimationFrame(frame.current);
  }, [views, p.tint, p.values, camera, dark, plain, p.cloud]);
  const move = (to: (c: Camera) => Camera) => {
    moving.current = true;
    setCamera(to);
    clearTimeout(rest.current);
    rest.current = setTimeout(() => {
      moving.current = false;
      cancelAnimationFrame(frame.current);
      frame.current = requestAnimationFrame(() => paintLast.current());
    }, REST);
  };
  const paintLast = useRef(paint);
  paintLast.current = paint;
  useEffect(
    () =>
      p.grab?.(() => {
        painter.current?.draw(views, camera, width, height, dark);
        return { url: canvas.current!.toDataURL("image/png"), width, height };
      }),
    [views, camera, p.values, p.tint, dark],
  );

  const at = (event: { clientX: number; clientY: number }) => {
    const r = root.current!.getBoundingClientRect();
    return { x: event.clientX - r.left, y: event.clientY - r.top };
  };
  const under = (x: number, y: number) => {
    const run = views.findIndex((v) => x >= v.x && x < v.x + v.width && y >= v.y && y < v.y + v.height);
    if (run < 0) return null;
    const i = pick(p.cloud.points, views[run]!, rotation(camera), camera, p.cloud.radius, x, y);
    return i === null ? null : { i, run };
  };
  const lit = (i: number): Lit => ({ text: p.cloud.texts[i]!, position: p.cloud.positions[i]! });
  const drag = useRef<{ x: number; y: number; camera: Camera; moved: boolean; pan: boolean } | null>(null);
  const looked = useRef(0);
  const where = useMemo(
    () =>
      p.cloud.runs.map((r) => (p.selected ? indexOf(p.cloud, r, p.selected.text, p.selected.position) : -1)),
    [p.cloud, p.selected?.text, p.selected?.position],
  );
  const rings = where.flatMap((i, k) =>
    i < 0 || !views[k]
      ? []
      : [project(p.cloud.points, i, views[k], rotation(camera), camera, p.cloud.radius)],
  );
  const zoom = (by: number) => move((c) => ({ ...c, zoom: Math.min(40, Math.max(0.3, c.zoom * by)) }));
  return (
    <div
      class="tx-cloud"
      ref={root}
      style={{ height: `${height}px` }}
      data-painter={plain ? "canvas" : "webgl"}
      tabIndex={0}
      data-own-keys
      role="application"
      aria-label="points: arrow keys turn, plus and minus zoom, 0 resets"
      onWheel={(e) => {
        e.preventDefault();
        zoom(Math.exp(-e.deltaY * 0.0012));
      }}
      onKeyDown={(e) => {
        const turn: Record<string, [number, number]> = {
          ArrowLeft: [-0.12, 0],
          ArrowRight: [0.12, 0],
          ArrowUp: [0, -0.12],
          ArrowDown: [0, 0.12],
        };
        const by = turn[e.key];
        if (by) move((c) => ({ ...c, yaw: c.yaw + by[0], pitch: c.pitch + by[1] }));
        else if (e.key === "+" || e.key === "=") zoom(1.25);
        else if (e.key === "-") zoom(0.8);
        else if (e.key === "0") move(() => START);
        else return;
        e.preventDefault();
      }}
      onPointerDown={(e) => {
        drag.current = { ...at(e), camera, moved: false, pan: e.shiftKey };
      }}
      onPointerMove={(e) => {
        const o = at(e),
          d = drag.current;
        if (!d) {
          if (performance.now() - looked.current < 40) return;
          looked.current = performance.now();
          const found = under(o.x, o.y);
          setHover(found && { ...found, ...o });
          return;
        }
        const [dx, dy] = [o.x - d.x, o.y - d.y];
        if (Math.hypot(dx, dy) > 3) d.moved = true;
        setHover(null);
        if (!d.moved) return;
        const c = d.camera;
        move(() =>
          d.pan
            ? { ...c, panX: c.panX + dx, panY: c.panY + dy }
            : { ...c, yaw: c.yaw + dx * 0.008, pitch: c.pitch + dy * 0.008 },
        );
      }}
      onPointerUp={(e) => {
        const moved = drag.current?.moved;
        drag.current = null;
        const o = at(e);
        const found = moved ? null : under(o.x, o.y);
        if (found) p.onSelect(lit(found.i));
      }}
      onPointerLeave={() => {
        drag.current = null;
        setHover(null);
      }}
    >
      <canvas key={String(plain)} ref={canvas} class="tx-canvas" aria-hidden="true" />
      {views.map((v) => (
        <span
          key={v.key + v.x + v.y}
          class="tx-cloud-name"
          style={{ left: `${v.x + 8}px`, top: `${v.y + 6}px` }}
        >
          {v.key}
        </span>
      ))}
      {plain && <span class="tx-badge">2-D canvas: no graphics card here</span>}
      {rings.map(([x, y], k) => (
        <div key={k} class="tx-ring" style={{ left: `${x}px`, top: `${y}px` }} aria-hidden="true" />
      ))}
      {hover && (
        <div
          class="tx-hover"
          role="tooltip"
          style={{ left: `${Math.max(0, Math.min(hover.x + 14, width - 230))}px`, top: `${hover.y + 14}px` }}
        >
          {p.card(lit(hover.i), p.cloud.runs[hover.run]!.run)}
        </div>
      )}
    </div>
  );
}
