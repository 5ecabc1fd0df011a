// Draws every canvas that carries its figures; colours come from the style sheet, so they follow the theme.
(() => {
  const drawn = [];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const draw = () => {
    drawn.splice(0).forEach((chart) => chart.destroy());
    for (const canvas of document.querySelectorAll("canvas[data-chart]")) {
      const spec = JSON.parse(canvas.dataset.chart);
      const line = spec.type === "line";
      const grid = { color: colour("--line"), drawTicks: false };
      const ticks = { color: colour("--quiet"), padding: 6, maxRotation: 0, autoSkipPadding: 24, precision: 0 };
      drawn.push(
        new Chart(canvas, {
          type: spec.type,
          data: {
            labels: spec.labels,
            datasets: spec.sets.map((set) => {
              const tone = colour(`--chart-${set.tone}`) || colour("--accent");
              return {
                label: set.label,
                data: set.data,
                borderColor: tone,
                backgroundColor: tone,
                borderWidth: line ? 2 : 0,
                pointRadius: line && set.data.length < 3 ? 3 : 0,
                pointHitRadius: 12,
                tension: 0.2,
                maxBarThickness: 28,
              };
            }),
          },
          options: {
            animation: false,
            maintainAspectRatio: false,
            interaction: { mode: "index", intersect: false },
            scales: {
              x: { stacked: !line, grid: { display: false }, border: { color: colour("--line") }, ticks },
              y: { stacked: !line, beginAtZero: true, grid, border: { display: false }, ticks },
            },
            plugins: {
              legend: {
                display: spec.sets.length > 1,
                position: "bottom",
                labels: { color: colour("--text"), boxWidth: 10, boxHeight: 10, padding: 14 },
              },
            },
          },
        }),
      );
    }
  };
  draw();
  document.addEventListener("themechange", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
