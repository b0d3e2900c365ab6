// The stage: small views of every block and one large view over a single canvas. Turn, zoom, hover, select.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { useApp } from "../app";
import { layerOf } from "../sites";
import { pick, project, rotation, START, type Camera, type View } from "./camera";
import type { Painter } from "./paint";
import { openPainter, usePlain } from "./painter";

export interface Block {
  site: string;
  start: number;
  count: number;
  hatched?: string;
}
export interface StageProps {
  blocks: Block[];
  points: Float32Array;
  radius: number;
  dim: number;
  tint: Float32Array;
  values: Float32Array | null;
  /** Changes whenever the numbers inside `values` did. */
  version: number;
  site: string;
  neuron: number | null;
  onSelect: (site: string, neuron: number | null) => void;
  card: (site: string, neuron: number) => ComponentChildren;
  label: string;
  grab?: (take: () => { url: string; width: number; height: number } | null) => void;
}

export function StageView(p: StageProps): JSX.Element {
  const app = useApp();
  const root = useRef<HTMLDivElement>(null),
    canvas = useRef<HTMLCanvasElement>(null);
  const painter = useRef<Painter | null>(null);
  const [plain, setPlain] = usePlain();
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [hover, setHover] = useState<{ site: string; neuron: number; x: number; y: number } | null>(null);
  const [camera, setCamera] = useState<Camera>(START);
  const views = useRef<View[]>([]);
  const frame = useRef(0);
  const dark = app.theme.value === "dark";

  useLayoutEffect(() => {
    painter.current = openPainter(canvas.current!, plain, () => setPlain(true));
    if (painter.current.kind === "canvas" && !plain) setPlain(true);
    return () => {
      painter.current?.free();
      painter.current = null;
    };
  }, [plain]);
  useEffect(() => {
    const watch = new ResizeObserver(() => {
      if (!root.current) return;
      const r = root.current.getBoundingClientRect();
      setSize({ width: Math.floor(r.width), height: Math.floor(r.height) });
    });
    watch.observe(root.current!);
    return () => watch.disconnect();
  }, []);
  useLayoutEffect(() => {
    painter.current?.set({ points: p.points, radius: p.radius, tint: p.tint, values: p.values, dark });
  }, [p.points, p.tint, plain, p.values === null]);
  useLayoutEffect(() => {
    painter.current?.setValues(p.values);
    const began = performance.now();
    cancelAnimationFrame(frame.current);
    const paint = () => {
      if (!root.current) return;
      views.current = placed(root.current!, p.blocks);
      painter.current?.draw(views.current, camera, size.width, size.height, dark);
      root.current!.dataset["painted"] = String(p.version);
      root.current!.dataset["ms"] = (performance.now() - began).toFixed(1);
    };
    frame.current = requestAnimationFrame(paint);
    return () => cancelAnimationFrame(frame.current);
  }, [p.blocks, p.values, p.version, p.points, p.tint, p.site, camera, size, dark, plain]);
  useEffect(
    () =>
      p.grab?.(() => {
        const c = canvas.current!;
        // drawn and read in one go: the buffer is not kept between frames
        painter.current?.draw(placed(root.current!, p.blocks), camera, size.width, size.height, dark);
        return { url: c.toDataURL("image/png"), width: size.width, height: size.height };
      }),
    [size, camera, p.blocks, p.version, dark],
  );

  const at = (event: { clientX: number; clientY: number }) => {
    const r = root.current!.getBoundingClientRect();
    return { x: event.clientX - r.left, y: event.clientY - r.top };
  };
  const under = (x: number, y: number) => {
    const view = views.current.find((v) => x >= v.x && x < v.x + v.width && y >= v.y && y < v.y + v.height);
    if (!view) return null;
    const i = pick(p.points, view, rotation(camera), camera, p.radius, x, y, view.big ? 10 : 6);
    return { view, neuron: i === null ? null : i - view.start };
  };
  const drag = useRef<{ x: number; y: number; camera: Camera; moved: boolean; pan: boolean } | null>(null);
  const ring = (() => {
    const view = views.current.find((v) => v.big);
    const block = p.blocks.find((b) => b.site === p.site);
    if (!view || !block || p.neuron === null || p.neuron >= block.count) return null;
    return project(p.points, block.start + p.neuron, view, rotation(camera), camera, p.radius);
  })();
  const turnBy = (dx: number, dy: number) =>
    setCamera((c) =>
      p.dim < 3
        ? { ...c, panX: c.panX + 60 * dx, panY: c.panY + 60 * dy }
        : { ...c, yaw: c.yaw + dx, pitch: c.pitch + dy },
    );
  return (
    <div
      class="tx-stage"
      ref={root}
      data-painter={plain ? "canvas" : "webgl"}
      onPointerDown={(e) => {
        const o = at(e);
        if (under(o.x, o.y)) drag.current = { ...o, camera, moved: false, pan: e.shiftKey || p.dim < 3 };
      }}
      onPointerMove={(e) => {
        const o = at(e),
          d = drag.current;
        if (d) {
          const [dx, dy] = [o.x - d.x, o.y - d.y];
          if (Math.hypot(dx, dy) > 3) d.moved = true;
          if (d.moved)
            setCamera(
              d.pan
                ? { ...d.camera, panX: d.camera.panX + dx, panY: d.camera.panY + dy }
                : { ...d.camera, yaw: d.camera.yaw + dx * 0.008, pitch: d.camera.pitch + dy * 0.008 },
            );
          setHover(null);
          return;
        }
        const found = under(o.x, o.y);
        setHover(
          found && found.neuron !== null ? { site: found.view.key, neuron: found.neuron, ...o } : null,
        );
      }}
      onPointerUp={(e) => {
        const o = at(e);
        const moved = drag.current?.moved;
        drag.current = null;
        if (moved) return;
        const found = under(o.x, o.y);
        if (found) p.onSelect(found.view.key, found.neuron ?? (found.view.big ? null : p.neuron));
      }}
      onPointerLeave={() => {
        drag.current = null;
        setHover(null);
      }}
    >
      <canvas key={String(plain)} ref={canvas} class="tx-canvas" aria-hidden="true" />
      <div class="tx-multiples" role="group" aria-label={`${p.label}: blocks`}>
        {p.blocks.map((b) => (
          <button
            key={b.site}
            type="button"
            class="tx-small"
            data-site={b.site}
            aria-pressed={b.site === p.site}
            tabIndex={-1}
            aria-label={`${b.site}, ${b.count} neurons${b.hatched ? `, ${b.hatched}` : ""}`}
            onClick={(e) => {
              if (e.detail === 0) p.onSelect(b.site, p.neuron);
            }}
          >
            <span>{layerOf(b.site)}</span>
            {b.hatched && <i class="tx-hatched" title={b.hatched} />}
          </button>
        ))}
      </div>
      <div
        class="tx-large"
        data-big={p.site}
        tabIndex={0}
        data-own-keys
        role="application"
        aria-label={`${p.site}, large view: arrow keys turn, plus and minus zoom, 0 resets`}
        onWheel={(e) => {
          e.preventDefault();
          setCamera((c) => ({
            ...c,
            zoom: Math.min(20, Math.max(0.4, c.zoom * Math.exp(-e.deltaY * 0.0012))),
          }));
        }}
        onKeyDown={(e) => {
          const turn: Record<string, [number, number]> = {
            ArrowLeft: [-0.12, 0],
            ArrowRight: [0.12, 0],
            ArrowUp: [0, -0.12],
            ArrowDown: [0, 0.12],
          };
          if (turn[e.key]) turnBy(...turn[e.key]!);
          else if (e.key === "+" || e.key === "=")
            setCamera((c) => ({ ...c, zoom: Math.min(20, c.zoom * 1.25) }));
          else if (e.key === "-") setCamera((c) => ({ ...c, zoom: Math.max(0.4, c.zoom / 1.25) }));
          else if (e.key === "0") setCamera(START);
          else return;
          e.preventDefault();
        }}
      >
        <span class="tx-large-name">{p.site}</span>
        <button type="button" class="tx-link tx-reset" onClick={() => setCamera(START)}>
          reset view
        </button>
        {plain && <span class="tx-badge">2-D canvas: no graphics card here</span>}
      </div>
      {ring && (
        <div class="tx-ring" style={{ left: `${ring[0]}px`, top: `${ring[1]}px` }} aria-hidden="true" />
      )}
      {hover && (
        <div
          class="tx-hover"
          role="tooltip"
          style={{ left: `${Math.min(hover.x + 14, size.width - 230)}px`, top: `${hover.y + 14}px` }}
        >
          {p.card(hover.site, hover.neuron)}
        </div>
      )}
    </div>
  );
}

/** Where each view lies on the stage: read from the page, so that CSS decides the layout. */
function placed(root: HTMLElement, blocks: Block[]): View[] {
  const origin = root.getBoundingClientRect();
  const of = new Map(blocks.map((b) => [b.site, b]));
  const views: View[] = [];
  root.querySelectorAll<HTMLElement>("[data-site],[data-big]").forEach((place) => {
    const big = place.dataset["big"] !== undefined;
    const key = place.dataset["site"] ?? place.dataset["big"]!;
    const block = of.get(key);
    const r = place.getBoundingClientRect();
    if (block && !block.hatched)
      views.push({
        x: r.left - origin.left,
        y: r.top - origin.top,
        width: r.width,
        height: r.height,
        start: block.start,
        count: block.count,
        key,
        big,
      });
  });
  return views;
}
